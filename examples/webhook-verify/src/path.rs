//! Which paths a rule means.

use percent_encoding::percent_decode_str;

/// Whether a server might take `path` for `rule` or for something below it. Servers differ in how they read escapes, dots,
/// double slashes, capitals and parameters: where one of them could, the answer is yes, and a signature is asked for.
pub(crate) fn may_be_below(path: &str, rule: &str) -> bool {
    let path = segments(path);
    path.iter().any(|segment| segment == "..") || path.starts_with(&segments(rule))
}

fn segments(path: &str) -> Vec<String> {
    let path = percent_decode_str(path).decode_utf8_lossy().to_lowercase();
    // What follows a semicolon are parameters of the segment, which some servers take off.
    let names = path.split(['/', '\\']).filter_map(|segment| segment.split(';').next());
    names.filter(|name| !name.is_empty() && *name != ".").map(str::to_owned).collect()
}
