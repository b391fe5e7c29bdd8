//! A live session.
