//! The bus of a single node: its own seats, and no others.

use std::sync::Arc;

use futures_util::FutureExt;

use super::{
    Bus, Registration, Seat, SeatState, TooManySeats,
    table::{Offered, Table, nobody},
};
use crate::{
    exchange::{Forward, ForwardFuture, Request},
    wire::TunnelName,
};

/// A [`Bus`] for one node.
pub struct MemoryBus {
    table: Arc<Table>,
}

impl MemoryBus {
    /// An empty bus where each name has at most so many seats at once.
    pub fn new(max_sessions_per_name: usize) -> Self {
        Self { table: Arc::new(Table::new(max_sessions_per_name)) }
    }
}

impl Bus for MemoryBus {
    fn register(&self, name: TunnelName, seat: Arc<dyn Seat>) -> Result<Registration, TooManySeats> {
        let id = self.table.add(&name, seat)?;
        let table = Arc::downgrade(&self.table);
        Ok(Registration::new(move || {
            if let Some(table) = table.upgrade() {
                table.remove(&name, id);
            }
        }))
    }

    fn core_of(&self, name: &TunnelName) -> Option<usize> {
        self.table.core_of(name)
    }
}

impl Forward for MemoryBus {
    fn forward(&self, request: Request) -> ForwardFuture<'_> {
        let answered = |offered| match offered {
            Offered::Taken(result) => result,
            Offered::Untaken(request, last) => {
                let known = self.table.knows(&request.context.tunnel);
                Err(nobody(last, known).unsent(request))
            }
        };
        Box::pin(self.table.offer(request, SeatState::TAKING).map(answered))
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            contract,
            table::{MAX_PAST, PAST_FOR},
        },
        *,
    };
    use crate::exchange::ErrorKind;

    crate::bus::contract::suite!(async {
        let bus = Arc::new(MemoryBus::new(contract::MAX_SEATS));
        contract::Ends::same(bus)
    });

    #[tokio::test(start_paused = true)]
    async fn an_ended_name_is_forgotten_after_a_day() {
        let bus = MemoryBus::new(1);
        drop(bus.register(contract::name(1), contract::seat("a")).unwrap());
        assert_eq!(contract::fails(&bus, contract::name(1)).await, ErrorKind::Offline);
        tokio::time::advance(PAST_FOR).await;
        assert_eq!(contract::fails(&bus, contract::name(1)).await, ErrorKind::NoSuchTunnel);
    }

    #[tokio::test]
    async fn the_oldest_of_too_many_ended_names_is_forgotten() {
        let bus = MemoryBus::new(1);
        for n in 0..=MAX_PAST as u64 {
            drop(bus.register(contract::name(n), contract::seat("a")).unwrap());
        }
        assert_eq!(contract::fails(&bus, contract::name(0)).await, ErrorKind::NoSuchTunnel);
        assert_eq!(contract::fails(&bus, contract::name(1)).await, ErrorKind::Offline);
    }
}
