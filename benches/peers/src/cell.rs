//! What is measured: a kind of exchange, and over how many connections at once.

/// One cell of the table.
pub(crate) struct Cell {
    pub(crate) name: &'static str,
    pub(crate) work: Work,
    pub(crate) connections: usize,
    pub(crate) needs: Needs,
}

/// What each connection does, again and again.
#[derive(Clone, Copy)]
pub(crate) enum Work {
    /// Downloads a body of so many bytes.
    Get(u64),
    /// Uploads one.
    Post(u64),
    /// Sends a WebSocket message of so many bytes and waits for its echo.
    Echo(usize),
}

impl Work {
    /// Whether one exchange is a measurement of its own, however long it takes.
    pub(crate) fn is_bulk(self) -> bool {
        matches!(self, Self::Get(GIB) | Self::Post(GIB))
    }
}

/// Which systems take part.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Needs {
    /// All peers, and ours as it comes.
    Http,
    /// Ours in all its forms (plugins, buses), beside ours as it comes and nginx.
    Variants,
}

const GIB: u64 = 1 << 30;

const fn http(name: &'static str, work: Work, connections: usize) -> Cell {
    Cell { name, work, connections, needs: Needs::Http }
}

const fn variants(name: &'static str, work: Work, connections: usize) -> Cell {
    Cell { name, work, connections, needs: Needs::Variants }
}

pub(crate) const ALL: &[Cell] = &[
    http("small GET, 1 connection", Work::Get(100), 1),
    http("small GET, 32 connections", Work::Get(100), 32),
    http("small GET, 256 connections", Work::Get(100), 256),
    http("10 kB GET, 32 connections", Work::Get(10_000), 32),
    http("400 kB GET, 8 connections", Work::Get(400_000), 8),
    http("400 kB POST, 8 connections", Work::Post(400_000), 8),
    http("1 GiB GET, 1 connection", Work::Get(GIB), 1),
    http("1 GiB POST, 1 connection", Work::Post(GIB), 1),
    http("WebSocket echo, 1 connection", Work::Echo(64), 1),
    http("WebSocket echo, 100 connections", Work::Echo(64), 100),
    variants("variants: small GET, 1 connection", Work::Get(100), 1),
    variants("variants: small GET, 32 connections", Work::Get(100), 32),
    variants("variants: small GET, 256 connections", Work::Get(100), 256),
    variants("variants: 10 kB GET, 32 connections", Work::Get(10_000), 32),
];
