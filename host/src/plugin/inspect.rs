//! What a file is, told before it is loaded with anything: its kind, hooks and imports.

use wasmtime::component::Component;

use super::{
    artefact::{self, Kind},
    capability,
    config::Grant,
    engine::Host,
    error::LoadError,
    load::{self, Hooks},
};

/// A file that can be a plugin.
#[derive(Debug, Clone)]
pub struct Description {
    /// How it was built.
    pub kind: Kind,
    /// Bytes of the component that it is, or is made into.
    pub bytes: usize,
    /// The version of `tunnel:plugin` that it was made for.
    pub version: &'static str,
    /// The hooks that it exports.
    pub hooks: Hooks,
    /// What it imports, in the component's order.
    pub imports: Vec<Import>,
}

/// One import.
#[derive(Debug, Clone)]
pub struct Import {
    /// The interface with its version.
    pub name: String,
    /// `None` if every plugin is lent it; else the sentence by which loading would refuse it without a grant.
    pub missing: Option<String>,
}

impl Host {
    /// Tells what a file is. It is compiled, but nothing of it runs.
    ///
    /// # Errors
    /// It is no plugin; see [`LoadError`].
    pub async fn describe(&self, wasm: &[u8]) -> Result<Description, LoadError> {
        let (kind, bytes) = artefact::component(wasm)?;
        let size = bytes.len();
        let engine = self.engine().clone();
        let compiled = tokio::task::spawn_blocking(move || {
            Component::new(&engine, bytes).map_err(|error| LoadError::Compile(format!("{error:#}")))
        });
        let component = compiled.await.unwrap_or_else(|error| Err(LoadError::Compile(error.to_string())))?;
        let hooks = load::hooks(&component, self.engine())?;
        let nothing = Grant::default();
        let imports = component.component_type();
        let imports = imports.imports(self.engine()).map(|(name, _)| Import {
            name: name.to_owned(),
            missing: capability::check(name, &nothing).err(),
        });
        Ok(Description { kind, bytes: size, version: capability::VERSION, hooks, imports: imports.collect() })
    }
}
