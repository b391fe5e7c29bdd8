//! `--plugin` and `--plugin-config`: plugins named on the command line.
//!
//! The rule for a configuration: each `--plugin-config` belongs to the `--plugin` that stands before it, and a plugin takes
//! one configuration, from there or after its `?`. The order of plugins is that of the flags.

use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, error::ErrorKind, value_parser};
use percent_encoding::percent_decode_str;

/// Plugins in the order in which they were named.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PluginFlags(pub Vec<PluginFlag>);

/// One `--plugin`.
#[derive(Debug, Clone, PartialEq)]
pub struct PluginFlag {
    /// What cargo built.
    pub file: PathBuf,
    /// What its `init` is told.
    pub config: FlagConfig,
}

/// A configuration given on the command line.
#[derive(Debug, Clone, PartialEq)]
pub enum FlagConfig {
    /// None at all.
    None,
    /// `?name=value&…`, all of them text.
    Flat(Vec<(String, String)>),
    /// A TOML file, all of which is the plugin's.
    File(PathBuf),
}

/// `FILE[?NAME=VALUE&…]`.
fn plugin(text: &str) -> Result<PluginFlag, String> {
    let (file, query) = text.split_once('?').map_or((text, None), |(file, query)| (file, Some(query)));
    if file.is_empty() {
        return Err("the file is missing; write auth.wasm, or 'auth.wasm?realm=staff'".to_owned());
    }
    let config = query.map_or(Ok(FlagConfig::None), |query| flat(query).map(FlagConfig::Flat))?;
    Ok(PluginFlag { file: file.into(), config })
}

fn flat(query: &str) -> Result<Vec<(String, String)>, String> {
    let mut pairs: Vec<(String, String)> = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) =
            pair.split_once('=').ok_or_else(|| format!("{pair:?} has no value; write {pair}=VALUE"))?;
        let decode = |text| percent_decode_str(text).decode_utf8().map(std::borrow::Cow::into_owned);
        let (Ok(name), Ok(value)) = (decode(name), decode(value)) else {
            return Err(format!(
                "{pair:?} isn't UTF-8 once its %XX are decoded; use --plugin-config FILE.toml"
            ));
        };
        if pairs.iter().any(|(other, _)| *other == name) {
            return Err(format!("{name} is given twice; for lists use --plugin-config FILE.toml"));
        }
        pairs.push((name, value));
    }
    Ok(pairs)
}

const HEADING: &str = "Plugins";

impl Args for PluginFlags {
    fn augment_args(command: Command) -> Command {
        command
            .arg(
                Arg::new("plugin")
                    .long("plugin")
                    .value_name("FILE[?NAME=VALUE&…]")
                    .help("Take every exchange through a plugin; given again, through one after the other")
                    .long_help(
                        "Take every exchange through a plugin, a WebAssembly component. Given again, requests pass them \
                         in this order, and answers in reverse. What follows a ? is configuration, each value a text \
                         (%26 for &). Plugins of tunnel.toml come before these.",
                    )
                    .action(ArgAction::Append)
                    .value_parser(plugin)
                    .help_heading(HEADING),
            )
            .arg(
                Arg::new("plugin_config")
                    .long("plugin-config")
                    .value_name("FILE.toml")
                    .help("The configuration of the --plugin right before it")
                    .action(ArgAction::Append)
                    .value_parser(value_parser!(PathBuf))
                    .help_heading(HEADING),
            )
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for PluginFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let wrong = |why: String| Err(clap::Error::raw(ErrorKind::ArgumentConflict, why + "\n"));
        let with_places = matches.indices_of("plugin").into_iter().flatten();
        let named: Vec<(usize, &PluginFlag)> =
            with_places.zip(matches.get_many("plugin").into_iter().flatten()).collect();
        let mut plugins: Vec<PluginFlag> = named.iter().map(|(_, plugin)| (*plugin).clone()).collect();
        let places = matches.indices_of("plugin_config").into_iter().flatten();
        for (place, file) in places.zip(matches.get_many::<PathBuf>("plugin_config").into_iter().flatten()) {
            let before = named.iter().filter(|(plugin, _)| *plugin < place).count();
            let shown = file.display();
            let Some(plugin) = before.checked_sub(1).and_then(|at| plugins.get_mut(at)) else {
                return wrong(format!(
                    "--plugin-config {shown} has no --plugin before it; write --plugin FILE --plugin-config {shown}"
                ));
            };
            if plugin.config != FlagConfig::None {
                return wrong(format!(
                    "--plugin-config {shown}: the plugin before it, {}, has a configuration already; it takes one",
                    plugin.file.display()
                ));
            }
            plugin.config = FlagConfig::File(file.clone());
        }
        Ok(Self(plugins))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::cli::Cli;

    fn flags(line: &str) -> Result<Vec<PluginFlag>, String> {
        Cli::of(line).map(|cli| cli.client.plugins.0).map_err(|error| error.to_string())
    }

    fn flag(file: &str, config: FlagConfig) -> PluginFlag {
        PluginFlag { file: file.into(), config }
    }

    #[test]
    fn order_is_kept_and_a_configuration_belongs_to_the_plugin_before_it() {
        let line = "tunnel 3000 --plugin a.wasm --plugin b.wasm --plugin-config b.toml --proxy http://localhost:1 \
                    --plugin c.wasm?realm=staff&x=1%26%202&y=a=b";
        let flat = [("realm", "staff"), ("x", "1& 2"), ("y", "a=b")];
        let flat = flat.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        assert_eq!(
            flags(line).unwrap(),
            [
                flag("a.wasm", FlagConfig::None),
                flag("b.wasm", FlagConfig::File("b.toml".into())),
                flag("c.wasm", FlagConfig::Flat(flat)),
            ]
        );
        let twice = flags("tunnel --plugin a.wasm --plugin a.wasm --plugin-config=x.toml").unwrap();
        assert_eq!(twice[0].config, FlagConfig::None);
        assert_eq!(twice[1].config, FlagConfig::File("x.toml".into()));
        assert_eq!(flags("tunnel").unwrap(), []);
    }

    #[test]
    fn a_plugin_alone_is_no_target() {
        let cli = Cli::of("tunnel --plugin auth.wasm").unwrap();
        assert_eq!((cli.client.target, cli.client.plugins.0.len()), (None, 1));
    }

    #[test]
    fn what_has_two_meanings_or_none_is_refused() {
        for (line, says) in [
            ("tunnel --plugin-config x.toml --plugin a.wasm", "has no --plugin before it"),
            (
                "tunnel --plugin a.wasm --plugin-config x.toml --plugin-config y.toml",
                "has a configuration already",
            ),
            ("tunnel --plugin a.wasm?x=1 --plugin-config x.toml", "has a configuration already"),
            ("tunnel --plugin a.wasm?x", "write x=VALUE"),
            ("tunnel --plugin a.wasm?x=1&x=2", "x is given twice"),
            ("tunnel --plugin ?x=1", "the file is missing"),
            ("tunnel --plugin a.wasm?x=%ff", "isn't UTF-8"),
        ] {
            let error = flags(line).unwrap_err();
            assert!(error.contains(says), "{line}: {error}");
        }
    }
}
