//! Any bytes as commands of Pen's control socket, and as a command line. Whatever they are: nothing panics, the tables
//! stay within their bounds, and what was written with `write` is written the same after it was read.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use cygnet::pen::options::{self, Parsed};
use cygnet::pen::{
    ACLS, ClientFigures, ConnectionFigures, Facts, Files, Names, Pen, SLOTS_MAX, ServerFigures, ServerId,
    Surroundings, first_line,
};

/// A machine with files in memory, and nothing else.
#[derive(Default)]
struct Machine(RefCell<BTreeMap<PathBuf, Vec<u8>>>);

impl Facts for Machine {
    fn unix_time(&self) -> i64 {
        1_000_000_000
    }
    fn local_time(&self) -> String {
        "2001-09-09 01:46:40".to_owned()
    }
    fn pid(&self) -> u32 {
        1
    }
    fn server(&self, _: ServerId) -> ServerFigures {
        ServerFigures::default()
    }
    fn current_server(&self) -> ServerId {
        ServerId::Regular(0)
    }
    fn clients(&self) -> Vec<ClientFigures> {
        Vec::new()
    }
    fn connections(&self) -> Vec<ConnectionFigures> {
        Vec::new()
    }
    fn newest_connection(&self) -> usize {
        0
    }
    fn idlers(&self) -> u32 {
        0
    }
}

impl Names for Machine {
    fn address(&self, name: &str) -> Option<IpAddr> {
        name.parse().ok()
    }
    fn port(&self, name: &str) -> Option<u16> {
        name.parse().ok()
    }
}

impl Files for Machine {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.0.borrow().get(path).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
    fn write(&self, path: &Path, text: &[u8]) -> io::Result<()> {
        self.0.borrow_mut().insert(path.to_owned(), text.to_vec());
        Ok(())
    }
    fn countries(&self, named: Option<&Path>) -> Option<PathBuf> {
        named.map(Path::to_owned)
    }
}

impl Machine {
    fn around(&self) -> Surroundings<'_> {
        Surroundings { facts: self, names: self, files: self }
    }
}

fn start(words: &[String], machine: &Machine) -> Option<Pen> {
    match options::parse("pen", words, machine.around()) {
        Parsed::Start(start) => start.finish(machine.around()).ok().map(|start| start.pen),
        Parsed::Stop(stop) => {
            assert!(stop.code <= 1);
            None
        }
    }
}

fn check(pen: &Pen) {
    assert!(pen.servers.len() <= SLOTS_MAX);
    assert!(pen.client_acl < ACLS && pen.control_acl < ACLS && pen.acls.len() == ACLS);
    assert!(pen.clients_max > 0 && pen.conn_max > 0 && pen.pending_max > 0);
    assert_eq!(pen.config().services.len(), 1);
    assert_eq!(pen.to_config().config.services.len(), 1);
}

/// Lines as commands, one after the other.
pub fn commands(bytes: &[u8]) {
    let machine = Machine::default();
    let line = |words: &str| words.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let pen = start(&line("-F /first 127.0.0.1:8000 127.0.0.1:80"), &machine);
    let mut pen = pen.expect("a plain command line");
    for line in bytes.split(|byte| *byte == b'\n').take(64) {
        let line = String::from_utf8_lossy(first_line(line));
        pen.command(&line, machine.around());
    }
    check(&pen);
    // These are in no file.
    (pen.clients_max, pen.conn_max, pen.exit_enabled) = (2048, 500, false);
    pen.listen_words = Some("127.0.0.1:8000".to_owned());
    pen.command("write /first", machine.around());
    let mut again = start(&line("-F /first 127.0.0.1:8000"), &machine).expect("its own file");
    again.command("write /second", machine.around());
    let files = machine.0.borrow();
    // The second line names the file itself.
    let rest = |path: &str| {
        files[Path::new(path)].split(|byte| *byte == b'\n').skip(2).map(<[u8]>::to_vec).collect::<Vec<_>>()
    };
    assert_eq!(rest("/first"), rest("/second"));
}

/// Words, parted by zero bytes, as a command line.
pub fn command_line(bytes: &[u8]) {
    let machine = Machine::default();
    machine.0.borrow_mut().insert("f".into(), b"listen 80\nserver 3 max 2\n".to_vec());
    let words = bytes.split(|byte| *byte == 0).take(64);
    let words: Vec<_> = words.map(|word| String::from_utf8_lossy(word).into_owned()).collect();
    if let Some(pen) = start(&words, &machine) {
        assert!(pen.listen.is_some());
        check(&pen);
    }
}
