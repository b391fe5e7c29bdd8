//! The sessions that are registered at this node: whose they are, where they come from, and how to end them.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use tokio_util::sync::CancellationToken;

use super::{Admission, InvitationId, NotAdmitted, address::Source};
use crate::{
    session::Handle,
    wire::{KeyName, TunnelName, message::Refusal},
};

/// A session under one name.
pub(crate) struct Placed {
    pub(super) key: KeyName,
    pub(super) name: TunnelName,
    pub(super) invitation: Option<InvitationId>,
    pub(super) source: Option<Source>,
    pub(super) handle: Handle,
    pub(super) dismissal: Arc<Dismissal>,
}

/// The order to end a session, with its reason.
#[derive(Debug, Default)]
pub(crate) struct Dismissal {
    reason: OnceLock<Refusal>,
    ordered: CancellationToken,
}

impl Dismissal {
    /// Waits until it is given; for ever, as a rule.
    pub(crate) async fn given(&self) -> Refusal {
        loop {
            self.ordered.cancelled().await;
            if let Some(reason) = self.reason.get() {
                return reason.clone();
            }
        }
    }

    /// Gives it, and says whether this is the first time.
    fn give(&self, reason: Refusal) -> bool {
        let first = self.reason.set(reason).is_ok();
        self.ordered.cancel();
        first
    }

    #[cfg(test)]
    pub(super) fn is_given(&self) -> bool {
        self.ordered.is_cancelled()
    }
}

/// Whose sessions are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whom {
    /// A key's.
    Key(KeyName),
    /// A tunnel's.
    Tunnel(TunnelName),
}

impl Whom {
    pub(super) fn is(&self, place: &Placed) -> bool {
        match self {
            Self::Key(key) => *key == place.key,
            Self::Tunnel(name) => *name == place.name,
        }
    }
}

/// How many there may be at once.
#[derive(Debug, Clone, Copy)]
pub(super) struct Most {
    pub(super) of_key: usize,
    pub(super) of_address: usize,
}

/// All of them.
#[derive(Default)]
pub(super) struct Live(Mutex<Places>);

#[derive(Default)]
struct Places {
    next: u64,
    places: HashMap<u64, Placed>,
    of_key: HashMap<KeyName, usize>,
    of_source: HashMap<Source, usize>,
}

impl Live {
    /// Takes one in, if there is room.
    pub(super) fn add(admission: &Arc<Admission>, place: Placed, most: Most) -> Result<Seated, NotAdmitted> {
        let mut places = admission.live.places();
        if places.of_key.get(&place.key).is_some_and(|count| *count >= most.of_key) {
            return Err(NotAdmitted::TooManyOfKey { limit: most.of_key });
        }
        let from_there = place.source.and_then(|source| places.of_source.get(&source));
        if from_there.is_some_and(|count| *count >= most.of_address) {
            return Err(NotAdmitted::TooManyOfAddress { limit: most.of_address });
        }
        // On one node two keys never have one name at once; the others are asked by the bus.
        if place.name.is_chosen()
            && places.places.values().any(|other| other.name == place.name && other.key != place.key)
        {
            return Err(NotAdmitted::Taken { name: place.name });
        }
        *places.of_key.entry(place.key.clone()).or_default() += 1;
        if let Some(source) = place.source {
            *places.of_source.entry(source).or_default() += 1;
        }
        let number = places.next;
        places.next += 1;
        places.places.insert(number, place);
        drop(places);
        Ok(Seated { admission: Arc::clone(admission), number })
    }

    /// Ends those for which there is a reason, and gives their number.
    pub(super) fn end_where(&self, reason: impl Fn(&Placed) -> Option<Refusal>) -> usize {
        let places = self.places();
        let ended = places.places.values().filter(|place| match reason(place) {
            Some(refusal) if place.dismissal.give(refusal.clone()) => {
                place.handle.dismiss(refusal);
                true
            }
            _ => false,
        });
        ended.count()
    }

    fn remove(&self, number: u64) {
        let mut places = self.places();
        if let Some(place) = places.places.remove(&number) {
            take_off(&mut places.of_key, &place.key);
            if let Some(source) = place.source {
                take_off(&mut places.of_source, &source);
            }
        }
    }

    // A panic while the lock is held can only come from a lack of memory.
    fn places(&self) -> MutexGuard<'_, Places> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn take_off<K: Eq + Hash>(counts: &mut HashMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

/// A session's place, until this is dropped.
pub(crate) struct Seated {
    admission: Arc<Admission>,
    number: u64,
}

impl Drop for Seated {
    fn drop(&mut self) {
        self.admission.live.remove(self.number);
    }
}
