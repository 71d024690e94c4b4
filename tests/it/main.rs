//! One integration binary: black-box tests over loopback, against real processes and real servers.
