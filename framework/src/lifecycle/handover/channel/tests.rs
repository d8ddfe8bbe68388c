//! What one end sends the other one gets, whole and in order, or is told why not.

use std::os::fd::AsRawFd;
use std::process::Command;

use async_io::block_on;
use futures_lite::future::{poll_once, zip};
use rustix::fs::fstat;
use rustix::io::fcntl_getfd;
use rustix::pipe::{pipe_with, PipeFlags};
use rustix::process::{setrlimit, Resource, Rlimit};

use super::*;
use crate::lifecycle::handover::{Batch, Full, Travelling, VERSION};

fn hello() -> Message {
    Message::Hello {
        version: VERSION,
        capabilities: 0,
        pid: std::process::id(),
    }
}

/// Two ends, each in the hands of its process, before any greeting.
fn strangers() -> (Channel, Channel) {
    let (ours, theirs) = Channel::pair().unwrap();
    (ours, Channel::adopt(theirs).unwrap())
}

/// Two ends that have greeted each other.
fn ends() -> (Channel, Channel) {
    let (old, new) = strangers();
    block_on(async {
        for (from, to) in [(&old, &new), (&new, &old)] {
            from.send(&hello(), &[]).await.unwrap();
            assert_eq!(message(to).await, hello());
        }
    });
    (old, new)
}

async fn message(channel: &Channel) -> Message {
    let (message, fds) = channel.receive().await.unwrap().unwrap();
    assert!(fds.is_empty());
    message
}

async fn refused(channel: &Channel) -> WireError {
    match channel.receive().await {
        Err(ReceiveError::Message(error)) => error,
        other => panic!("{other:?}"),
    }
}

/// Sends what no channel would.
fn send_raw(channel: &Channel, datagram: &[u8], fds: &[BorrowedFd<'_>]) {
    loop {
        match send_now(channel.socket.get_ref(), datagram, fds) {
            // other tests' descriptors in flight count too
            Err(error) if Errno::from_io_error(&error) == Some(Errno::TOOMANYREFS) => {
                std::thread::sleep(TOO_MANY_IN_FLIGHT);
            }
            sent => return sent.unwrap(),
        }
    }
}

fn pipe() -> (OwnedFd, OwnedFd) {
    pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).unwrap()
}

/// Waits until nobody holds the other end any more. Another test may just be starting a program, which has a copy of
/// every descriptor until it is executed.
fn wait_for_end(of: &impl AsFd) {
    let mut this = [PollFd::new(of, PollFlags::RDHUP)];
    let patience = Timespec {
        tv_sec: 10,
        tv_nsec: 0,
    };
    assert_eq!(
        poll(&mut this, Some(&patience)),
        Ok(1),
        "somebody still holds the other end"
    );
}

fn entry(claim: u32) -> Travelling {
    let (peer, local) = ("127.0.0.1:4711".to_owned(), "127.0.0.1:80".to_owned());
    Travelling {
        claim,
        peer,
        local,
        accepted_ago: 5,
        since_ago: 1,
        head: b"GET / HTT".to_vec(),
    }
}

async fn send_all(channel: &Channel, batches: &[Full<OwnedFd>]) {
    for full in batches {
        let fds: Vec<_> = full.sockets.iter().map(AsFd::as_fd).collect();
        channel.send(&full.message, &fds).await.unwrap();
    }
}

#[test]
fn what_is_sent_arrives_in_order_in_both_directions() {
    let (old, new) = ends();
    block_on(async {
        old.send(&Message::Cancel, &[]).await.unwrap();
        old.send(&Message::Confirmed, &[]).await.unwrap();
        new.send(
            &Message::Failed {
                why: "no database".into(),
            },
            &[],
        )
        .await
        .unwrap();
        assert_eq!(message(&new).await, Message::Cancel);
        assert_eq!(message(&new).await, Message::Confirmed);
        assert_eq!(
            message(&old).await,
            Message::Failed {
                why: "no database".into()
            }
        );
        drop(old);
        assert!(new.receive().await.unwrap().is_none());
        assert!(new.receive().await.unwrap().is_none());
    });
}

#[test]
fn a_thousand_connections_arrive_each_with_its_own_entry() {
    // more than the usual soft limit
    crate::sys::limits::OpenFiles::raise();
    let (old, new) = ends();
    let mut batch = Batch::new();
    let (mut batches, mut sent) = (Vec::new(), Vec::new());
    for claim in 0..1000 {
        let (reading, _) = pipe();
        sent.push(fstat(&reading).unwrap().st_ino);
        batches.extend(batch.push(entry(claim), reading).unwrap());
    }
    batches.extend(batch.take());
    assert_eq!(batches.len(), 4);
    let arrived = async {
        let mut arrived = Vec::new();
        while arrived.len() < sent.len() {
            let (message, fds) = new.receive().await.unwrap().unwrap();
            let Message::Connections(entries) = message else {
                panic!("{message:?}")
            };
            for (travelled, fd) in entries.iter().zip(&fds) {
                assert_eq!(*travelled, entry(arrived.len() as u32));
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
fn a_full_queue_makes_the_sender_wait_and_loses_nothing() {
    let (old, new) = ends();
    block_on(async {
        let mut queued = 0;
        while poll_once(old.send(&Message::Taken { count: queued }, &[]))
            .await
            .is_some()
        {
            queued += 1;
        }
        assert!(queued > 100, "{queued}");
        let last = Message::Taken { count: queued };
        let sender = old.send(&last, &[]);
        let receiver = async {
            for count in 0..=queued {
                assert_eq!(message(&new).await, Message::Taken { count });
            }
        };
        zip(sender, receiver).await.0.unwrap();
        assert!(poll_once(new.receive()).await.is_none());
    });
}

#[test]
fn the_longest_messages_pass_each_other_in_both_directions() {
    let (old, new) = ends();
    let longest = Message::Failed {
        why: "x".repeat(MAX_BYTES - 5),
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
fn more_descriptors_than_may_be_in_flight_arrive_all_the_same() {
    let (old, new) = ends();
    let (reading, _writing) = pipe();
    let entries: Vec<Travelling> = (0..MAX_FDS as u32).map(entry).collect();
    let (message, fds) = (
        Message::Connections(entries),
        vec![reading.as_fd(); MAX_FDS],
    );
    let sender = async {
        for _ in 0..40 {
            old.send(&message, &fds).await.unwrap();
        }
    };
    let receiver = async {
        // let the sender run into its limit first
        Timer::after(Duration::from_millis(20)).await;
        for _ in 0..40 {
            assert_eq!(new.receive().await.unwrap().unwrap().1.len(), MAX_FDS);
        }
    };
    block_on(zip(sender, receiver));
}

#[test]
fn what_a_dead_peer_had_sent_is_received_before_the_end() {
    // the kernel says first that the peer is gone, for it had not read everything
    let (old, new) = ends();
    send_raw(&new, &Message::Ready.encode(), &[]);
    send_raw(&old, &Message::Cancel.encode(), &[]);
    drop(new);
    wait_for_end(&old.socket);
    let first = receive_datagram(old.socket.get_ref(), &mut [0; 8]);
    assert_eq!(first.err(), Some(Errno::CONNRESET));

    let (old, new) = ends();
    let (reading, writing) = pipe();
    block_on(async {
        new.send(&Message::Accepting, &[]).await.unwrap();
        new.send(&Message::Connections(vec![entry(1)]), &[writing.as_fd()])
            .await
            .unwrap();
        new.send(&Message::Taken { count: 3 }, &[]).await.unwrap();
        old.send(&Message::Confirmed, &[]).await.unwrap();
        drop((new, writing));
        assert_eq!(message(&old).await, Message::Accepting);
        let (back, fds) = old.receive().await.unwrap().unwrap();
        assert_eq!(back, Message::Connections(vec![entry(1)]));
        assert_eq!(rustix::io::read(&reading, &mut [0; 1]), Err(Errno::AGAIN));
        drop(fds);
        wait_for_end(&reading);
        assert_eq!(message(&old).await, Message::Taken { count: 3 });
        assert!(old.receive().await.unwrap().is_none());
        assert!(old.receive().await.unwrap().is_none());
    });
}

#[test]
fn a_dead_peer_ends_a_wait_and_takes_nothing_more() {
    let (old, new) = ends();
    block_on(async {
        let die = async {
            Timer::after(Duration::from_millis(5)).await;
            drop(new);
        };
        let (received, ()) = zip(old.receive(), die).await;
        assert!(received.unwrap().is_none());
        let error = old.send(&Message::Confirmed, &[]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    });
}

#[test]
fn an_end_whose_other_end_is_closed_already_can_be_adopted() {
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
fn a_stranger_is_known_by_its_first_message() {
    let (old, new) = strangers();
    let (reading, writing) = pipe();
    send_raw(&new, b"READY=1", &[writing.as_fd()]);
    send_raw(&new, &Message::Ready.encode(), &[]);
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
fn a_message_that_is_refused_leaves_no_descriptor_and_no_trace() {
    let (old, new) = ends();
    let (reading, writing) = pipe();
    let two = Message::Connections(vec![entry(1), entry(2)]).encode();
    let fd = writing.as_fd();
    send_raw(&old, &Message::Live.encode(), &[fd, fd]);
    send_raw(&old, &two, &[fd]);
    send_raw(&old, &two[..two.len() - 1], &[fd, fd]);
    send_raw(&old, &[99], &vec![fd; MAX_FDS]);
    send_raw(&old, b"", &[fd]);
    send_raw(&old, &[2; MAX_BYTES + 1], &[fd]);
    send_raw(&old, &Message::Confirmed.encode(), &[]);
    drop(writing);
    block_on(async {
        assert_eq!(
            refused(&new).await,
            WireError::Descriptors { belong: 1, came: 2 }
        );
        assert_eq!(
            refused(&new).await,
            WireError::Descriptors { belong: 2, came: 1 }
        );
        assert_eq!(refused(&new).await, WireError::Truncated);
        assert_eq!(refused(&new).await, WireError::UnknownTag(99));
        assert_eq!(refused(&new).await, WireError::Empty);
        assert_eq!(refused(&new).await, WireError::Oversize);
        wait_for_end(&reading);
        assert_eq!(message(&new).await, Message::Confirmed);
    });
}

#[test]
fn what_does_not_belong_together_is_not_sent() {
    let (old, new) = ends();
    let (reading, _writing) = pipe();
    let fd = reading.as_fd();
    let many: Vec<Travelling> = (0..=MAX_FDS as u32).map(entry).collect();
    let long = Travelling {
        head: vec![0; MAX_BYTES],
        ..entry(1)
    };
    block_on(async {
        let error = old.send(&Message::Live, &[]).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "a message with 0 descriptors instead of 1"
        );
        let too_many = old
            .send(&Message::Connections(many), &[fd; MAX_FDS + 1])
            .await
            .unwrap_err();
        assert_eq!(Errno::from_io_error(&too_many), Some(Errno::INVAL));
        let too_long = old
            .send(&Message::Connections(vec![long]), &[fd])
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
            "what was passed for the handover is no SEQPACKET Unix socket"
        );
    }
}

#[test]
fn an_adopted_end_does_not_block_and_is_closed_in_programs_that_are_started() {
    let flags = SocketFlags::empty();
    let (one, _other) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
    let channel = Channel::adopt(one).unwrap();
    assert!(fcntl_getfd(&channel.socket)
        .unwrap()
        .contains(FdFlags::CLOEXEC));
    assert!(block_on(poll_once(channel.receive())).is_none());
}

/// The limit on open files belongs to a process, so that this one has to be tried in one of its own.
#[test]
fn descriptors_that_this_process_may_not_open_are_not_lost_silently() {
    const CHILD: &str = "SLACKWATER_TEST_FEW_DESCRIPTORS";
    if std::env::var_os(CHILD).is_none() {
        let name = "lifecycle::handover::channel::tests::descriptors_that_this_process_may_not_open_are_not_lost_silently";
        let mut child = Command::new(std::env::current_exe().unwrap());
        let child = child
            .args(["--exact", name])
            .env(CHILD, "1")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&child.stdout);
        assert!(
            child.status.success() && said.contains("1 passed"),
            "{said}"
        );
        return;
    }
    let (old, new) = ends();
    let (reading, writing) = pipe();
    let four: Vec<Travelling> = (0..4).map(entry).collect();
    send_raw(
        &old,
        &Message::Connections(four).encode(),
        &[writing.as_fd(); 4],
    );
    send_raw(&old, &Message::Confirmed.encode(), &[]);
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
        assert_eq!(message(&new).await, Message::Confirmed);
    });
}
