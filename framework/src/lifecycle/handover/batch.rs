//! Packs the connections that travel into as few messages as their number and size allow.

use std::mem;

use super::wire::{Message, Travelling, CONNECTIONS_HEADER, MAX_BYTES, MAX_FDS};

/// A message in the making: entries, and with each whatever is its socket.
#[derive(Debug)]
pub(crate) struct Batch<S> {
    entries: Vec<Travelling>,
    sockets: Vec<S>,
    /// What the message is long with these entries.
    bytes: usize,
}

/// A message to be sent, and the sockets that belong to it, in the order of its entries.
#[derive(Debug)]
pub(crate) struct Full<S> {
    pub(crate) message: Message,
    pub(crate) sockets: Vec<S>,
}

/// A connection that no message can carry, for what has been read of it is too long: it has to stay.
#[derive(Debug)]
pub(crate) struct TooLarge<S> {
    pub(crate) entry: Travelling,
    pub(crate) socket: S,
}

impl<S> Batch<S> {
    pub(crate) fn new() -> Self {
        Batch {
            entries: Vec::new(),
            sockets: Vec::new(),
            bytes: CONNECTIONS_HEADER,
        }
    }

    /// Adds a connection, and hands out a message when there is one that takes no more.
    ///
    /// # Errors
    /// The connection, when it does not fit into a message of its own.
    pub(crate) fn push(
        &mut self,
        entry: Travelling,
        socket: S,
    ) -> Result<Option<Full<S>>, Box<TooLarge<S>>> {
        let size = entry.size();
        if size > MAX_BYTES - CONNECTIONS_HEADER {
            return Err(Box::new(TooLarge { entry, socket }));
        }
        let full = if size > MAX_BYTES - self.bytes {
            self.take()
        } else {
            None
        };
        self.bytes += size;
        self.entries.push(entry);
        self.sockets.push(socket);
        Ok(if self.entries.len() == MAX_FDS {
            self.take()
        } else {
            full
        })
    }

    /// What has been added since the last message, if anything.
    pub(crate) fn take(&mut self) -> Option<Full<S>> {
        let Batch {
            entries, sockets, ..
        } = mem::replace(self, Batch::new());
        (!entries.is_empty()).then_some(Full {
            message: Message::Connections(entries),
            sockets,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn entry(claim: u32, head: usize) -> Travelling {
        let (peer, local) = ("127.0.0.1:4711".to_owned(), "127.0.0.1:80".to_owned());
        Travelling {
            claim,
            peer,
            local,
            accepted_ago: 1,
            since_ago: 0,
            head: vec![b'x'; head],
        }
    }

    /// Packs one connection for each length of a head, its number being its claim and its socket.
    fn pack(heads: &[usize]) -> (Vec<Full<u32>>, Vec<u32>) {
        let (mut batch, mut full, mut large) = (Batch::new(), Vec::new(), Vec::new());
        for (number, head) in (0..).zip(heads) {
            match batch.push(entry(number, *head), number) {
                Ok(message) => full.extend(message),
                Err(stays) => {
                    assert_eq!(stays.entry.claim, stays.socket);
                    large.push(stays.socket);
                }
            }
        }
        full.extend(batch.take());
        (full, large)
    }

    fn claims(full: &Full<u32>) -> Vec<u32> {
        let Message::Connections(entries) = &full.message else {
            panic!("{:?}", full.message)
        };
        entries.iter().map(|entry| entry.claim).collect()
    }

    #[test]
    fn a_batch_of_nothing_is_no_message() {
        assert!(Batch::<u32>::new().take().is_none());
    }

    #[test]
    fn a_message_is_handed_out_with_its_last_descriptor() {
        let mut batch = Batch::new();
        for number in 1..MAX_FDS as u32 {
            assert!(batch.push(entry(number, 0), number).unwrap().is_none());
        }
        let full = batch.push(entry(0, 0), 0).unwrap().unwrap();
        assert_eq!(full.sockets.len(), MAX_FDS);
        assert!(batch.take().is_none());
    }

    #[test]
    fn a_head_that_fills_a_message_travels_alone_and_one_byte_more_stays() {
        let room = MAX_BYTES - CONNECTIONS_HEADER - entry(0, 0).size();
        let (full, large) = pack(&[10, room, room + 1, 10]);
        assert_eq!(
            full.iter().map(claims).collect::<Vec<_>>(),
            [vec![0], vec![1], vec![3]]
        );
        assert_eq!(full[1].message.encode().len(), MAX_BYTES);
        assert_eq!(large, [2]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn no_limit_is_passed_no_connection_lost_and_the_order_kept(
            heads in vec(prop_oneof![8 => 0_usize..200, 1 => 0_usize..2 * MAX_BYTES], 0..700),
        ) {
            let (full, large) = pack(&heads);
            for one in &full {
                prop_assert!(one.sockets.len() <= MAX_FDS);
                prop_assert!(one.message.encode().len() <= MAX_BYTES);
                prop_assert_eq!(&claims(one), &one.sockets);
            }
            let travels = full.iter().flat_map(claims).collect::<Vec<_>>();
            let expected = (0..heads.len() as u32).filter(|number| !large.contains(number));
            prop_assert_eq!(travels, expected.collect::<Vec<_>>());
            let fits = MAX_BYTES - CONNECTIONS_HEADER - entry(0, 0).size();
            prop_assert!(large.iter().all(|number| heads[*number as usize] > fits));
        }
    }
}
