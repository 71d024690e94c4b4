//! The strict HTTP/1 lane: what a head and a body's framing mean. Pure: bytes in, meaning out; sockets are outside.

mod body;
mod chunked;
mod head;

pub use body::BodyCopy;
pub use chunked::BadChunk;
pub(in crate::listener) use chunked::size_line;
pub use head::{
    AnswerHead, BadHead, BodyLength, Head, HeadLimits, LINES_MAX, Line, Parsed, Repeated, Space, list,
};
