//! Chunked bodies: however the network cuts one (the first byte says into pieces of which size), it is the same data,
//! and what we frame of it anew is that data too.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tollgate::listener::Buffers;
use tollgate::listener::http1::{BadChunk, BodyCopy, BodyLength};

/// What became of a body.
#[derive(PartialEq, Eq, Debug)]
struct Copied {
    fault: Option<BadChunk>,
    data: Vec<u8>,
    /// How many bytes belong to the next message.
    behind: usize,
    is_complete: bool,
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&step, body)) = bytes.split_first() else { return };
    let bare = || BodyCopy::new(BodyLength::Chunked, false);
    let whole = copied(body, body.len(), bare());
    assert_eq!(copied(body, step.into(), bare()), whole);
    assert!(whole.data.len() + whole.behind <= body.len());

    let framing = BodyCopy::new(BodyLength::Chunked, true).passing_trailers(|_| true);
    let framed = copied(body, step.into(), framing);
    assert_eq!(
        (framed.fault, framed.is_complete, framed.behind),
        (whole.fault, whole.is_complete, whole.behind)
    );
    let Copied { data, .. } = framed;
    let read = copied(&data, data.len(), bare());
    assert_eq!((read.fault, read.data, read.behind), (None, whole.data, 0));
    assert_eq!(read.is_complete, whole.is_complete);
});

fn copied(body: &[u8], step: usize, mut copy: BodyCopy) -> Copied {
    let pool = Buffers::default();
    let (mut from, mut to) = (pool.take(), pool.take());
    let mut pieces = body.chunks(step.max(1));
    let fault = pieces.find_map(|piece| {
        from.push(piece);
        copy.advance(&mut from, &mut to).err()
    });
    assert!(fault.is_some() || copy.is_complete() || from.is_empty(), "something stays behind");
    // Behind a fault nothing has a meaning.
    let behind = if fault.is_some() { 0 } else { from.len() };
    Copied { fault, data: to.filled().to_vec(), behind, is_complete: copy.is_complete() }
}
