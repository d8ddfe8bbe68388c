//! Messages arrive whole and in order, and every failure is reported.

use std::os::fd::AsRawFd;
use std::process::Command;

use async_io::block_on;
use futures_lite::future::{poll_once, zip};
use rustix::fs::fstat;
use rustix::io::fcntl_getfd;
use rustix::pipe::{pipe_with, PipeFlags};
use rustix::process::{setrlimit, Resource, Rlimit};

use super::*;
use crate::lifecycle::handover::{Batch, ConnectionRecord, FullBatch, VERSION};

fn hello() -> PeerMessage {
    PeerMessage::Hello {
        version: VERSION,
        capabilities: 0,
        pid: std::process::id(),
    }
}

/// Returns the two ends of a channel before any greeting.
fn ungreeted() -> (Channel, Channel) {
    let (ours, theirs) = Channel::pair().unwrap();
    (ours, Channel::adopt(theirs).unwrap())
}

/// Returns the two ends of a channel after the greetings.
fn ends() -> (Channel, Channel) {
    let (old, new) = ungreeted();
    block_on(async {
        for (from, to) in [(&old, &new), (&new, &old)] {
            from.send(&hello(), &[]).await.unwrap();
            assert_eq!(message(to).await, hello());
        }
    });
    (old, new)
}

async fn message(channel: &Channel) -> PeerMessage {
    let (message, fds) = channel.receive().await.unwrap().unwrap();
    assert!(fds.is_empty());
    message
}

async fn refused(channel: &Channel) -> WireError {
    match channel.receive().await {
        Err(ReceiveError::Malformed(error)) => error,
        other => panic!("{other:?}"),
    }
}

/// Sends a datagram that `Channel::send` would refuse.
fn send_raw(channel: &Channel, datagram: &[u8], fds: &[BorrowedFd<'_>]) {
    loop {
        match send_now(channel.socket.get_ref(), datagram, fds) {
            // descriptors in flight of other tests count as well
            Err(error) if Errno::from_io_error(&error) == Some(Errno::TOOMANYREFS) => {
                std::thread::sleep(IN_FLIGHT_RETRY);
            }
            sent => return sent.unwrap(),
        }
    }
}

fn pipe() -> (OwnedFd, OwnedFd) {
    pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).unwrap()
}

/// Waits until every copy of the other end is closed. If another test starts a program at the same time, the program has
/// a copy of every descriptor until execve(2).
fn wait_for_end(end: &impl AsFd) {
    let mut events = [PollFd::new(end, PollFlags::RDHUP)];
    let patience = Timespec {
        tv_sec: 10,
        tv_nsec: 0,
    };
    assert_eq!(
        poll(&mut events, Some(&patience)),
        Ok(1),
        "a copy of the other end is still open"
    );
}

fn record(claim: u32) -> ConnectionRecord {
    let (peer, local) = ("127.0.0.1:4711".to_owned(), "127.0.0.1:80".to_owned());
    ConnectionRecord {
        claim,
        peer,
        local,
        accepted_ago: 5,
        since_ago: 1,
        head: b"GET / HTT".to_vec(),
    }
}

async fn send_all(channel: &Channel, batches: &[FullBatch<OwnedFd>]) {
    for full in batches {
        let fds: Vec<_> = full.sockets.iter().map(AsFd::as_fd).collect();
        channel.send(&full.message, &fds).await.unwrap();
    }
}

#[test]
fn messages_arrive_in_order_in_both_directions() {
    let (old, new) = ends();
    block_on(async {
        old.send(&PeerMessage::Cancel, &[]).await.unwrap();
        old.send(&PeerMessage::Confirmed, &[]).await.unwrap();
        new.send(
            &PeerMessage::Failed {
                reason: "no database".into(),
            },
            &[],
        )
        .await
        .unwrap();
        assert_eq!(message(&new).await, PeerMessage::Cancel);
        assert_eq!(message(&new).await, PeerMessage::Confirmed);
        assert_eq!(
            message(&old).await,
            PeerMessage::Failed {
                reason: "no database".into()
            }
        );
        drop(old);
        assert!(new.receive().await.unwrap().is_none());
        assert!(new.receive().await.unwrap().is_none());
    });
}

#[test]
fn a_thousand_connections_arrive_each_with_its_own_record() {
    // the test needs more than the usual soft limit
    crate::sys::limits::OpenFiles::raise();
    let (old, new) = ends();
    let mut batch = Batch::new();
    let (mut batches, mut sent) = (Vec::new(), Vec::new());
    for claim in 0..1000 {
        let (reading, _) = pipe();
        sent.push(fstat(&reading).unwrap().st_ino);
        batches.extend(batch.push(record(claim), reading).unwrap());
    }
    batches.extend(batch.take());
    assert_eq!(batches.len(), 4);
    let arrived = async {
        let mut arrived = Vec::new();
        while arrived.len() < sent.len() {
            let (message, fds) = new.receive().await.unwrap().unwrap();
            let PeerMessage::Connections(records) = message else {
                panic!("{message:?}")
            };
            for (received, fd) in records.iter().zip(&fds) {
                assert_eq!(*received, record(arrived.len() as u32));
                assert!(fcntl_getfd(fd).unwrap().contains(FdFlags::CLOEXEC));
                arrived.push(fstat(fd).unwrap().st_ino);
            }
        }
        arrived
    };
    let ((), arrived) = block_on(zip(send_all(&old, &batches), arrived));
    assert_eq!(arrived, sent);
}

#[test]
fn a_full_queue_blocks_the_sender_and_loses_no_message() {
    let (old, new) = ends();
    block_on(async {
        let mut queued = 0;
        while poll_once(old.send(&PeerMessage::Ack { count: queued }, &[]))
            .await
            .is_some()
        {
            queued += 1;
        }
        assert!(queued > 100, "{queued}");
        let last = PeerMessage::Ack { count: queued };
        let sender = old.send(&last, &[]);
        let receiver = async {
            for count in 0..=queued {
                assert_eq!(message(&new).await, PeerMessage::Ack { count });
            }
        };
        zip(sender, receiver).await.0.unwrap();
        assert!(poll_once(new.receive()).await.is_none());
    });
}

#[test]
fn the_longest_messages_can_be_sent_in_both_directions_at_once() {
    let (old, new) = ends();
    let longest = PeerMessage::Failed {
        reason: "x".repeat(MAX_BYTES - 5),
    };
    assert_eq!(longest.encode().len(), MAX_BYTES);
    let talk = |channel: &Channel| {
        let channel = channel.socket.get_ref().try_clone().unwrap();
        let channel = Channel::adopt(channel).unwrap();
        channel.greeted.store(true, Ordering::Release);
        let longest = longest.clone();
        std::thread::spawn(move || {
            let send = async {
                for _ in 0..20 {
                    channel.send(&longest, &[]).await.unwrap();
                }
            };
            let receive = async {
                for _ in 0..20 {
                    assert_eq!(message(&channel).await, longest);
                }
            };
            block_on(zip(send, receive));
        })
    };
    let (one, other) = (talk(&old), talk(&new));
    one.join().unwrap();
    other.join().unwrap();
}

#[test]
fn more_descriptors_than_may_be_in_flight_arrive() {
    let (old, new) = ends();
    let (reading, _writing) = pipe();
    let records: Vec<ConnectionRecord> = (0..MAX_FDS as u32).map(record).collect();
    let (message, fds) = (
        PeerMessage::Connections(records),
        vec![reading.as_fd(); MAX_FDS],
    );
    let sender = async {
        for _ in 0..40 {
            old.send(&message, &fds).await.unwrap();
        }
    };
    let receiver = async {
        // the sender has to reach the limit first
        Timer::after(Duration::from_millis(20)).await;
        for _ in 0..40 {
            assert_eq!(new.receive().await.unwrap().unwrap().1.len(), MAX_FDS);
        }
    };
    block_on(zip(sender, receiver));
}

#[test]
fn messages_of_a_dead_peer_are_received_before_the_end() {
    // the kernel first reports the end of the peer, because the peer has not read everything
    let (old, new) = ends();
    send_raw(&new, &PeerMessage::Ready.encode(), &[]);
    send_raw(&old, &PeerMessage::Cancel.encode(), &[]);
    drop(new);
    wait_for_end(&old.socket);
    let first = receive_datagram(old.socket.get_ref(), &mut [0; 8]);
    assert_eq!(first.err(), Some(Errno::CONNRESET));

    let (old, new) = ends();
    let (reading, writing) = pipe();
    block_on(async {
        new.send(&PeerMessage::Accepting, &[]).await.unwrap();
        new.send(
            &PeerMessage::Connections(vec![record(1)]),
            &[writing.as_fd()],
        )
        .await
        .unwrap();
        new.send(&PeerMessage::Ack { count: 3 }, &[]).await.unwrap();
        old.send(&PeerMessage::Confirmed, &[]).await.unwrap();
        drop((new, writing));
        assert_eq!(message(&old).await, PeerMessage::Accepting);
        let (back, fds) = old.receive().await.unwrap().unwrap();
        assert_eq!(back, PeerMessage::Connections(vec![record(1)]));
        assert_eq!(rustix::io::read(&reading, &mut [0; 1]), Err(Errno::AGAIN));
        drop(fds);
        wait_for_end(&reading);
        assert_eq!(message(&old).await, PeerMessage::Ack { count: 3 });
        assert!(old.receive().await.unwrap().is_none());
        assert!(old.receive().await.unwrap().is_none());
    });
}

#[test]
fn after_the_death_of_the_peer_receiving_ends_and_sending_fails() {
    let (old, new) = ends();
    block_on(async {
        let die = async {
            Timer::after(Duration::from_millis(5)).await;
            drop(new);
        };
        let (received, ()) = zip(old.receive(), die).await;
        assert!(received.unwrap().is_none());
        let error = old.send(&PeerMessage::Confirmed, &[]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    });
}

#[test]
fn an_end_can_be_adopted_after_the_other_end_was_closed() {
    let (old, theirs) = Channel::pair().unwrap();
    block_on(old.send(&hello(), &[])).unwrap();
    drop(old);
    let new = Channel::adopt(theirs).unwrap();
    block_on(async {
        assert_eq!(message(&new).await, hello());
        assert!(new.receive().await.unwrap().is_none());
    });
}

#[test]
fn a_foreign_program_is_detected_by_its_first_message() {
    let (old, new) = ungreeted();
    let (reading, writing) = pipe();
    send_raw(&new, b"READY=1", &[writing.as_fd()]);
    send_raw(&new, &PeerMessage::Ready.encode(), &[]);
    send_raw(&new, b"", &[]);
    drop(writing);
    block_on(async {
        assert_eq!(refused(&old).await, WireError::Foreign);
        wait_for_end(&reading);
        assert_eq!(refused(&old).await, WireError::Foreign);
        assert_eq!(refused(&old).await, WireError::Empty);
        new.send(&hello(), &[]).await.unwrap();
        assert_eq!(message(&old).await, hello());
    });
}

#[test]
fn a_refused_message_leaves_no_descriptor_open_and_the_next_one_is_received() {
    let (old, new) = ends();
    let (reading, writing) = pipe();
    let two = PeerMessage::Connections(vec![record(1), record(2)]).encode();
    let fd = writing.as_fd();
    send_raw(&old, &PeerMessage::Live.encode(), &[fd, fd]);
    send_raw(&old, &two, &[fd]);
    send_raw(&old, &two[..two.len() - 1], &[fd, fd]);
    send_raw(&old, &[99], &vec![fd; MAX_FDS]);
    send_raw(&old, b"", &[fd]);
    send_raw(&old, &[2; MAX_BYTES + 1], &[fd]);
    send_raw(&old, &PeerMessage::Confirmed.encode(), &[]);
    drop(writing);
    block_on(async {
        assert_eq!(
            refused(&new).await,
            WireError::Descriptors {
                expected: 1,
                received: 2
            }
        );
        assert_eq!(
            refused(&new).await,
            WireError::Descriptors {
                expected: 2,
                received: 1
            }
        );
        assert_eq!(refused(&new).await, WireError::Truncated);
        assert_eq!(refused(&new).await, WireError::UnknownTag(99));
        assert_eq!(refused(&new).await, WireError::Empty);
        assert_eq!(refused(&new).await, WireError::Oversize);
        wait_for_end(&reading);
        assert_eq!(message(&new).await, PeerMessage::Confirmed);
    });
}

#[test]
fn messages_with_wrong_descriptors_or_of_excessive_size_are_not_sent() {
    let (old, new) = ends();
    let (reading, _writing) = pipe();
    let fd = reading.as_fd();
    let many: Vec<ConnectionRecord> = (0..=MAX_FDS as u32).map(record).collect();
    let long = ConnectionRecord {
        head: vec![0; MAX_BYTES],
        ..record(1)
    };
    block_on(async {
        let error = old.send(&PeerMessage::Live, &[]).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "the message has 0 descriptors instead of 1"
        );
        let too_many = old
            .send(&PeerMessage::Connections(many), &[fd; MAX_FDS + 1])
            .await
            .unwrap_err();
        assert_eq!(Errno::from_io_error(&too_many), Some(Errno::INVAL));
        let too_long = old
            .send(&PeerMessage::Connections(vec![long]), &[fd])
            .await
            .unwrap_err();
        assert_eq!(Errno::from_io_error(&too_long), Some(Errno::MSGSIZE));
        assert!(poll_once(new.receive()).await.is_none());
    });
}

#[test]
fn only_a_seqpacket_unix_socket_is_adopted() {
    let stream = socketpair(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )
    .unwrap()
    .0;
    let internet = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    for wrong in [stream, internet, pipe().0] {
        let error = Channel::adopt(wrong).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the descriptor that was passed for the handover is not a SEQPACKET Unix socket"
        );
    }
}

#[test]
fn an_adopted_end_is_non_blocking_and_close_on_exec() {
    let flags = SocketFlags::empty();
    let (one, _other) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
    let channel = Channel::adopt(one).unwrap();
    assert!(fcntl_getfd(&channel.socket)
        .unwrap()
        .contains(FdFlags::CLOEXEC));
    assert!(block_on(poll_once(channel.receive())).is_none());
}

/// Runs in a child process, because the limit on open files applies to the whole process.
#[test]
fn descriptors_over_the_open_file_limit_are_reported_as_lost() {
    const CHILD: &str = "SLACKWATER_TEST_FEW_DESCRIPTORS";
    if std::env::var_os(CHILD).is_none() {
        let name = "lifecycle::handover::channel::tests::descriptors_over_the_open_file_limit_are_reported_as_lost";
        let mut child = Command::new(std::env::current_exe().unwrap());
        let child = child
            .args(["--exact", name])
            .env(CHILD, "1")
            .output()
            .unwrap();
        let output = String::from_utf8_lossy(&child.stdout);
        assert!(
            child.status.success() && output.contains("1 passed"),
            "{output}"
        );
        return;
    }
    let (old, new) = ends();
    let (reading, writing) = pipe();
    let four: Vec<ConnectionRecord> = (0..4).map(record).collect();
    send_raw(
        &old,
        &PeerMessage::Connections(four).encode(),
        &[writing.as_fd(); 4],
    );
    send_raw(&old, &PeerMessage::Confirmed.encode(), &[]);
    let next = writing.as_fd().try_clone_to_owned().unwrap();
    let room = next.as_raw_fd() as u64 + 2;
    drop(next);
    let before = rustix::process::getrlimit(Resource::Nofile);
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: Some(room),
            ..before
        },
    )
    .unwrap();
    drop(writing);
    block_on(async {
        assert_eq!(refused(&new).await, WireError::DescriptorsLost);
        wait_for_end(&reading);
        assert_eq!(message(&new).await, PeerMessage::Confirmed);
    });
}
