//! The bounded queue of events to Python, with an eventfd that is readable while events wait.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, Read, Write},
    os::fd::{AsRawFd, FromRawFd, RawFd},
};

use parking_lot::Mutex;
use weft_proto::engine::{Event, Log, event::Kind, log::Level};

/// Beyond this, losable events are dropped. Others are bounded by what they stand for: targets, ports, admin requests.
const LOSABLE_LIMIT: usize = 2048;
const ADMIN_LIMIT: usize = 4096;

#[derive(Default)]
struct Queue {
    events: VecDeque<Event>,
    dropped: u64,
}

pub struct EventQueue {
    queue: Mutex<Queue>,
    ready: File,
}

impl EventQueue {
    pub fn new() -> io::Result<Self> {
        // SAFETY: eventfd takes no pointers; a non-negative result is a descriptor nobody else owns.
        let ready = unsafe {
            let fd = libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK);
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            File::from_raw_fd(fd)
        };
        Ok(Self { queue: Mutex::default(), ready })
    }

    pub fn fd(&self) -> RawFd {
        self.ready.as_raw_fd()
    }

    pub fn push(&self, kind: Kind) {
        self.queue.lock().events.push_back(Event { kind: Some(kind) });
        self.wake();
    }

    /// False when Python is too far behind to take another admin request.
    pub fn push_admin(&self, kind: Kind) -> bool {
        let mut queue = self.queue.lock();
        if queue.events.len() >= ADMIN_LIMIT {
            return false;
        }
        queue.events.push_back(Event { kind: Some(kind) });
        drop(queue);
        self.wake();
        true
    }

    /// Dropped, and counted, when Python is too far behind.
    pub fn push_losable(&self, kind: Kind) {
        let mut queue = self.queue.lock();
        if queue.events.len() >= LOSABLE_LIMIT {
            queue.dropped += 1;
            return;
        }
        queue.events.push_back(Event { kind: Some(kind) });
        drop(queue);
        self.wake();
    }

    pub fn log(&self, level: Level, target: &str, message: &str, fields: &[(&str, String)]) {
        let fields = fields.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
        let log = Log { level: level as i32, target: target.to_owned(), message: message.to_owned(), fields };
        self.push_losable(Kind::Log(log));
    }

    pub fn dropped(&self) -> u64 {
        self.queue.lock().dropped
    }

    pub fn drain(&self) -> Vec<Event> {
        // Cleared before the queue is emptied: an event pushed in between leaves the descriptor readable.
        let mut counter = [0; 8];
        let _ = (&self.ready).read(&mut counter);
        self.queue.lock().events.drain(..).collect()
    }

    fn wake(&self) {
        // The only failure is a full counter, and then the descriptor is readable already.
        let _ = (&self.ready).write(&1u64.to_ne_bytes());
    }
}
