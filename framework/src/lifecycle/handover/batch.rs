//! Packs connections into as few messages as their number and size allow.

use std::mem;

use super::wire::{ConnectionRecord, PeerMessage, CONNECTIONS_HEADER, MAX_BYTES, MAX_FDS};

/// A message that is not full yet: records, and the sockets that belong to them.
#[derive(Debug)]
pub(crate) struct Batch<S> {
    records: Vec<ConnectionRecord>,
    sockets: Vec<S>,
    /// The size of the message with these records.
    bytes: usize,
}

/// A message to send, and its sockets in the order of its records.
#[derive(Debug)]
pub(crate) struct FullBatch<S> {
    pub(crate) message: PeerMessage,
    pub(crate) sockets: Vec<S>,
}

/// A connection that does not fit into a message, because too many bytes were read ahead.
#[derive(Debug)]
pub(crate) struct OversizedConnection<S> {
    pub(crate) record: ConnectionRecord,
    pub(crate) socket: S,
}

impl<S> Batch<S> {
    pub(crate) fn new() -> Self {
        Batch {
            records: Vec::new(),
            sockets: Vec::new(),
            bytes: CONNECTIONS_HEADER,
        }
    }

    /// Adds a connection, and returns a message if it is now full.
    ///
    /// # Errors
    /// The connection does not fit even into a message of its own.
    pub(crate) fn push(
        &mut self,
        record: ConnectionRecord,
        socket: S,
    ) -> Result<Option<FullBatch<S>>, Box<OversizedConnection<S>>> {
        let size = record.size();
        if size > MAX_BYTES - CONNECTIONS_HEADER {
            return Err(Box::new(OversizedConnection { record, socket }));
        }
        let full = if size > MAX_BYTES - self.bytes {
            self.take()
        } else {
            None
        };
        self.bytes += size;
        self.records.push(record);
        self.sockets.push(socket);
        Ok(if self.records.len() == MAX_FDS {
            self.take()
        } else {
            full
        })
    }

    /// Returns the records that were added since the last message, as a message.
    pub(crate) fn take(&mut self) -> Option<FullBatch<S>> {
        let Batch {
            records, sockets, ..
        } = mem::replace(self, Batch::new());
        (!records.is_empty()).then_some(FullBatch {
            message: PeerMessage::Connections(records),
            sockets,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn record(claim: u32, head: usize) -> ConnectionRecord {
        let (peer, local) = ("127.0.0.1:4711".to_owned(), "127.0.0.1:80".to_owned());
        ConnectionRecord {
            claim,
            peer,
            local,
            accepted_ago: 1,
            since_ago: 0,
            head: vec![b'x'; head],
        }
    }

    /// Packs one connection for each head size. Its index is its claim and its socket.
    fn pack(heads: &[usize]) -> (Vec<FullBatch<u32>>, Vec<u32>) {
        let (mut batch, mut full, mut large) = (Batch::new(), Vec::new(), Vec::new());
        for (number, head) in (0..).zip(heads) {
            match batch.push(record(number, *head), number) {
                Ok(message) => full.extend(message),
                Err(oversized) => {
                    assert_eq!(oversized.record.claim, oversized.socket);
                    large.push(oversized.socket);
                }
            }
        }
        full.extend(batch.take());
        (full, large)
    }

    fn claims(full: &FullBatch<u32>) -> Vec<u32> {
        let PeerMessage::Connections(records) = &full.message else {
            panic!("{:?}", full.message)
        };
        records.iter().map(|record| record.claim).collect()
    }

    #[test]
    fn an_empty_batch_makes_no_message() {
        assert!(Batch::<u32>::new().take().is_none());
    }

    #[test]
    fn a_message_is_full_with_its_last_descriptor() {
        let mut batch = Batch::new();
        for number in 1..MAX_FDS as u32 {
            assert!(batch.push(record(number, 0), number).unwrap().is_none());
        }
        let full = batch.push(record(0, 0), 0).unwrap().unwrap();
        assert_eq!(full.sockets.len(), MAX_FDS);
        assert!(batch.take().is_none());
    }

    #[test]
    fn a_head_that_fills_a_message_is_sent_alone_and_a_longer_one_is_refused() {
        let room = MAX_BYTES - CONNECTIONS_HEADER - record(0, 0).size();
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
        fn batches_respect_the_limits_lose_no_connection_and_keep_the_order(
            heads in vec(prop_oneof![8 => 0_usize..200, 1 => 0_usize..2 * MAX_BYTES], 0..700),
        ) {
            let (full, large) = pack(&heads);
            for one in &full {
                prop_assert!(one.sockets.len() <= MAX_FDS);
                prop_assert!(one.message.encode().len() <= MAX_BYTES);
                prop_assert_eq!(&claims(one), &one.sockets);
            }
            let sent = full.iter().flat_map(claims).collect::<Vec<_>>();
            let expected = (0..heads.len() as u32).filter(|number| !large.contains(number));
            prop_assert_eq!(sent, expected.collect::<Vec<_>>());
            let fits = MAX_BYTES - CONNECTIONS_HEADER - record(0, 0).size();
            prop_assert!(large.iter().all(|number| heads[*number as usize] > fits));
        }
    }
}
