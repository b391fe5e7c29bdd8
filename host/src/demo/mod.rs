//! A sample service for `tunnel demo`.
