//! The plugins of `tunnel demo`: two of the examples, compiled beforehand, so that a machine without a compiler for
//! WebAssembly shows them too.

use std::sync::Arc;

use crate::{
    demo::{BASIC_AUTH, REWRITE},
    exchange::Forward,
    plugin::{Chain, Config, Host, LoadError, Options, Plugin, Role},
    proxy::policy::{About, DomainPattern, Policy, PolicyLimits, Stages},
};

/// Below it the demo asks for a password.
const GUARDED: &str = "/members/*";

/// Every page gets a line, and every answer a header.
const REWRITE_CONFIG: &str = r#"{
    "response": { "set": [["x-demo-plugin", "rewrite.wasm"]] },
    "inject": "<footer class=\"small soft\" id=\"by-plugin\">This line was put here on the way by a plugin, rewrite.wasm, which the proxy runs. Another, basic-auth.wasm, guards <a href=\"members/\">the members' page</a>: come in as <code>demo</code> with the password <code>demo</code>.</footer>\n"
}"#;

/// The password is `demo`.
const AUTH_CONFIG: &str = r#"{
    "realm": "members of the demo: demo, demo",
    "users": { "demo": "2a97516c354b68848cdbd8f54a226a0a55b21ed138e207ad6c5cbb9c00aa5aea" }
}"#;

/// What the demo's proxy does to the way.
///
/// # Errors
/// This machine can't run WebAssembly.
pub(super) async fn policies() -> Result<Vec<Policy>, LoadError> {
    let host = Host::new(&Options::default())?;
    let load = async |name: &str, wasm: &[u8], config: &str| {
        let mut settings = Config::new(name, Role::Proxy);
        settings.config = config.to_owned();
        host.load(wasm, settings).await
    };
    let rewrite = load("rewrite", REWRITE, REWRITE_CONFIG).await?;
    let auth = load("basic-auth", BASIC_AUTH, AUTH_CONFIG).await?;
    let policy = |path: Option<&str>, plugins: Vec<Arc<Plugin>>| Policy {
        domain: DomainPattern::Any,
        path: path.map(|path| path.parse().expect("a pattern")),
        limits: PolicyLimits::default(),
        about: About {
            plugins: plugins.iter().map(|plugin| plugin.name().to_owned()).collect(),
            ..About::default()
        },
        stages: before(plugins),
    };
    Ok(vec![policy(Some(GUARDED), vec![auth, Arc::clone(&rewrite)]), policy(None, vec![rewrite])])
}

fn before(plugins: Vec<Arc<Plugin>>) -> Stages {
    Arc::new(move |next| Arc::new(Chain::new(plugins.clone(), next)) as Arc<dyn Forward>)
}
