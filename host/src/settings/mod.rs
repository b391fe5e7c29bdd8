//! Command line, files and environment: the only place that knows every Config.
