//! `[[plugin]]` and `[secrets]` as written, in `proxy.toml` and `tunnel.toml` alike.
//!
//! Single values are checked here; what follows from them is decided in `wanted` beside this file.

use std::{
    collections::BTreeMap,
    fmt,
    marker::PhantomData,
    num::{NonZeroU32, NonZeroUsize},
    path::PathBuf,
    str::FromStr,
};

use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, SeqAccess, Visitor, value},
};

use crate::{
    plugin::{Isolation, OnFailure},
    settings::{
        secret::SecretSource,
        units::{Size, Wait},
        values::{PublicUrl, Written, Wrong},
    },
};

/// `[[plugin]]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct PluginTable {
    pub name: Option<Written<PluginName>>,
    pub file: Option<PathBuf>,
    pub sha256: Option<Written<Sha256>>,
    pub config: Option<toml::Table>,
    #[serde(default)]
    pub grant: GrantTable,
    #[serde(default)]
    pub limits: LimitsTable,
    pub on_failure: Option<Failing>,
    pub isolation: Option<Isolated>,
    pub tick: Option<Written<Wait>>,
}

/// `grant = { … }`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct GrantTable {
    #[serde(default)]
    pub kv: bool,
    #[serde(default)]
    pub shared_kv: Vec<String>,
    #[serde(default)]
    pub http: Vec<Written<PublicUrl>>,
    #[serde(default)]
    pub secrets: Named<SecretSource>,
    #[serde(default)]
    pub env: Named<String>,
    #[serde(default)]
    pub folders: Vec<FolderTable>,
}

/// `folders = [{ host = "…", guest = "/…" }]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct FolderTable {
    pub host: PathBuf,
    pub guest: String,
    #[serde(default)]
    pub writable: bool,
}

/// A list of names, or a table of names with values.
#[derive(Debug, Clone)]
pub enum Named<T> {
    /// Names alone; what they stand for is known elsewhere.
    List(Vec<String>),
    /// With what each stands for.
    Table(BTreeMap<String, T>),
}

impl<T> Default for Named<T> {
    fn default() -> Self {
        Self::List(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Named<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Either<T> {
            type Value = Named<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of names, or a table { NAME = … }")
            }

            // Not by the usual words, which repeat what was found: it may be a secret.
            fn visit_str<E: de::Error>(self, _: &str) -> Result<Self::Value, E> {
                Err(E::custom("expected a list of names, or a table { NAME = … }"))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, names: A) -> Result<Self::Value, A::Error> {
                Deserialize::deserialize(value::SeqAccessDeserializer::new(names)).map(Named::List)
            }

            fn visit_map<A: MapAccess<'de>>(self, table: A) -> Result<Self::Value, A::Error> {
                Deserialize::deserialize(value::MapAccessDeserializer::new(table)).map(Named::Table)
            }
        }

        deserializer.deserialize_any(Either(PhantomData))
    }
}

/// `limits = { … }`; the meaning of each is at [`crate::plugin::Limits`].
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct LimitsTable {
    pub memory: Option<Written<Size>>,
    pub time: Option<Written<Wait>>,
    pub wait: Option<Written<Wait>>,
    pub body: Option<Written<Size>>,
    pub message: Option<Written<Size>>,
    pub state: Option<Written<Size>>,
    pub instances: Option<NonZeroUsize>,
    pub queue: Option<usize>,
    pub reuse: Option<NonZeroU32>,
    pub failures: Option<NonZeroU32>,
    pub pause: Option<Written<Wait>>,
    pub log_lines: Option<u32>,
    pub series: Option<usize>,
    pub kv_entries: Option<usize>,
    pub kv_bytes: Option<Written<Size>>,
}

/// As [`OnFailure`].
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Failing {
    Deny,
    Skip,
}

impl From<Failing> for OnFailure {
    fn from(failing: Failing) -> Self {
        match failing {
            Failing::Deny => Self::Deny,
            Failing::Skip => Self::Skip,
        }
    }
}

/// As [`Isolation`].
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Isolated {
    Pool,
    Exchange,
}

impl From<Isolated> for Isolation {
    fn from(isolated: Isolated) -> Self {
        match isolated {
            Isolated::Pool => Self::Pool,
            Isolated::Exchange => Self::Exchange,
        }
    }
}

/// What policies, logs and metrics call a plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginName(pub String);

impl FromStr for PluginName {
    type Err = Wrong;

    fn from_str(text: &str) -> Result<Self, Wrong> {
        let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if (1..=64).contains(&text.len()) && text.chars().all(good) {
            return Ok(Self(text.to_owned()));
        }
        Err(Wrong(format!(
            "{text:?} is no name of a plugin; write up to 64 letters, digits, dashes, dots and _"
        )))
    }
}

/// A digest that pins a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sha256(pub [u8; 32]);

impl FromStr for Sha256 {
    type Err = Wrong;

    fn from_str(text: &str) -> Result<Self, Wrong> {
        let wrong = || {
            Wrong(format!(
                "{text:?} is no SHA-256 digest; write 64 hexadecimal digits, as sha256sum shows them"
            ))
        };
        if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        let mut digest = [0; 32];
        for (byte, digits) in digest.iter_mut().zip(text.as_bytes().chunks(2)) {
            let digits = std::str::from_utf8(digits).map_err(|_| wrong())?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| wrong())?;
        }
        Ok(Self(digest))
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
