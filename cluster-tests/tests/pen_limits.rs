//! Limits and times of Pen's front end while it runs: commands change them, and the data path follows.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cygnet_lab::command;
use cygnet_lab::enter;
use cygnet_lab::pen::{Installed, LIMIT, Running, said};
use cygnet_lab::wait;

const PEN: u16 = 8080;
const SERVER: u16 = 101;

fn local(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// A server that echoes, and how many connections it has.
fn echo() -> Result<Arc<AtomicUsize>> {
    let (listener, open) = (TcpListener::bind(local(SERVER))?, Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&open);
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let open = Arc::clone(&counted);
            open.fetch_add(1, Ordering::SeqCst);
            thread::spawn(move || {
                let _ = stream.try_clone().and_then(|mut from| std::io::copy(&mut from, &mut stream));
                open.fetch_sub(1, Ordering::SeqCst);
            });
        }
    });
    Ok(open)
}

fn connect() -> Result<TcpStream> {
    let stream = TcpStream::connect(local(PEN)).context("no connection")?;
    stream.set_read_timeout(Some(LIMIT))?;
    Ok(stream)
}

/// One byte there and back.
fn turn(stream: &mut TcpStream) -> Result<()> {
    let mut byte = [7];
    stream.write_all(&byte)?;
    stream.read_exact(&mut byte).context("no answer")
}

/// Whether pen has a connection of this number.
fn is_taken(running: &Running<'_>, number: usize) -> Result<bool> {
    Ok(!running.ctl(&format!("connection {number}"))?.contains("downfd = -1"))
}

#[test]
fn idle_connections_to_servers_are_kept_and_let_go() -> Result<()> {
    enter::lab(|| {
        let (open, installed) = (echo()?, Installed::new("pen")?);
        let running = installed.start(&["-O", "idlers 3", "8080", "127.0.0.1:101"])?;
        let until = |wanted: usize| {
            let said = format!("Idlers: {wanted}/{wanted}\n");
            wait::until(LIMIT, &said, || {
                let are_there = open.load(Ordering::SeqCst) == wanted && running.ctl("idlers")? == said;
                Ok(are_there.then_some(()))
            })
        };
        until(3)?;
        running.ctl("idlers 1")?;
        until(1)?;
        running.ctl("idlers 2")?;
        until(2)?;
        turn(&mut connect()?)
    })
}

#[test]
fn a_silent_connection_ends_after_the_idle_timeout_and_a_talking_one_goes_on() -> Result<()> {
    enter::lab(|| {
        let (_open, installed) = (echo()?, Installed::new("pen")?);
        let running = installed.start(&["8080", "127.0.0.1:101"])?;
        let (mut silent, mut talking) = (connect()?, connect()?);
        turn(&mut silent)?;
        turn(&mut talking)?;
        ensure!(running.ctl("idle_timeout 2")? == "Idle timeout: 2 seconds\n");
        // It counts for connections from then on.
        let (mut late, start) = (connect()?, Instant::now());
        turn(&mut late)?;
        let mut chatty = connect()?;
        late.set_read_timeout(Some(Duration::from_millis(100)))?;
        loop {
            turn(&mut chatty)?;
            match late.read(&mut [0; 1]) {
                Ok(0) => break,
                Ok(_) => anyhow::bail!("bytes from nowhere"),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(_) => break,
            }
            ensure!(start.elapsed() < LIMIT, "it is still open");
        }
        ensure!(start.elapsed() >= Duration::from_secs(2), "after {:?}", start.elapsed());
        turn(&mut chatty)?;
        turn(&mut silent).context("the timeout is not for those who came before")?;
        turn(&mut talking)
    })
}

#[test]
fn conn_max_grows_while_clients_wait() -> Result<()> {
    enter::lab(|| {
        let (_open, installed) = (echo()?, Installed::new("pen")?);
        let running = installed.start(&["-x", "2", "8080", "127.0.0.1:101"])?;
        let (mut first, mut second, mut third) = (connect()?, connect()?, connect()?);
        turn(&mut first)?;
        turn(&mut second)?;
        third.set_read_timeout(Some(Duration::from_millis(300)))?;
        ensure!(turn(&mut third).is_err(), "a third client was taken in");
        ensure!(running.ctl("conn_max 3")? == "3\n");
        third.set_read_timeout(Some(LIMIT))?;
        third.read_exact(&mut [0]).context("the third one was not taken in")?;
        turn(&mut first)
    })
}

#[test]
fn pending_max_holds_clients_back_until_it_grows() -> Result<()> {
    enter::lab(|| {
        let installed = Installed::new("pen")?;
        // Nobody answers there, not even with a refusal.
        command::run("nft", &["add", "table", "inet", "hole"])?;
        let hook = "{ type filter hook input priority 0; }";
        command::run("nft", &["add", "chain", "inet", "hole", "in", hook])?;
        command::run("nft", &["add", "rule", "inet", "hole", "in", "tcp", "dport", "109", "drop"])?;
        let words = ["-t", "20", "-O", "pending_max 1", "8080", "127.0.0.1:109"];
        let running = installed.start(&words)?;
        let _first = connect()?;
        wait::until(LIMIT, "the first connect", || Ok(is_taken(&running, 0)?.then_some(())))?;
        let _second = connect()?;
        thread::sleep(Duration::from_millis(300));
        ensure!(!is_taken(&running, 1)?, "a second client was taken in");
        running.ctl("pending_max 2")?;
        wait::until(LIMIT, "the second one", || Ok(is_taken(&running, 1)?.then_some(())))
    })
}

#[test]
fn nobody_is_let_in_by_a_process_that_ends_at_its_start() -> Result<()> {
    enter::lab(|| {
        let (_open, installed) = (echo()?, Installed::new("pen")?);
        let (over, came) = (AtomicBool::new(false), AtomicUsize::new(0));
        let ended = thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    if TcpStream::connect(local(PEN)).is_ok() {
                        came.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
            let ended = (0..20).try_for_each(|_| {
                let output =
                    installed.pen(&["-f", "-p", "/nowhere/pid", "8080", "127.0.0.1:101"]).output()?;
                ensure!(output.status.code() == Some(1), "{}", output.status);
                ensure!(said(&output).contains("Can't create pidfile"), "{}", said(&output));
                Ok(())
            });
            over.store(true, Ordering::Relaxed);
            ended
        });
        ended?;
        ensure!(came.load(Ordering::Relaxed) == 0, "{} clients were let in", came.load(Ordering::Relaxed));
        Ok(())
    })
}

/// Pipes that the process has open.
fn pipes(pid: u32) -> Result<usize> {
    let folder = std::fs::read_dir(format!("/proc/{pid}/fd"))?;
    let links = folder.flatten().filter_map(|entry| std::fs::read_link(entry.path()).ok());
    Ok(links.filter(|link| link.to_string_lossy().starts_with("pipe:")).count())
}

#[test]
fn bulk_is_spliced_but_for_what_is_logged() -> Result<()> {
    enter::lab(|| {
        let (_open, installed) = (echo()?, Installed::new("pen")?);
        // A pipe has two descriptors. The log sees what clients send, not what they get.
        for (log, descriptors) in [(false, 4), (true, 2)] {
            let log = if log { &["-l", "./log"][..] } else { &[] };
            let running = installed.start(&[log, &["8080", "127.0.0.1:101"]].concat())?;
            let (before, stream) = (pipes(running.pid)?, connect()?);
            let mut most = before;
            thread::scope(|scope| {
                let (mut to, mut from) = (stream.try_clone()?, &stream);
                scope.spawn(move || {
                    // Whether all of it goes through is not what is looked at.
                    let _ = (0..256).try_for_each(|_| to.write_all(&[b'x'; 1 << 18]));
                    let _ = to.shutdown(Shutdown::Write);
                });
                let mut bytes = vec![0; 1 << 18];
                while from.read(&mut bytes)? > 0 {
                    most = most.max(pipes(running.pid)?);
                }
                anyhow::Ok(())
            })?;
            ensure!(most == before + descriptors, "{before} pipes, then {most}; with the log: {}", log.len());
            drop(running);
        }
        Ok(())
    })
}

#[test]
fn a_list_with_countries_needs_a_database_and_says_so() -> Result<()> {
    enter::lab(|| {
        let (_open, installed) = (echo()?, Installed::new("pen")?);
        let output =
            installed.pen(&["-f", "--countries", "/nowhere.mmdb", "8080", "127.0.0.1:101"]).output()?;
        ensure!(output.status.code() == Some(1), "{}", output.status);
        ensure!(
            said(&output).contains("the country database /nowhere.mmdb cannot be read"),
            "{}",
            said(&output)
        );
        std::fs::write(installed.path("bad.mmdb"), "not a database")?;
        let output = installed.pen(&["-f", "--countries", "./bad.mmdb", "8080", "127.0.0.1:101"]).output()?;
        ensure!(output.status.code() == Some(1), "{}", output.status);
        ensure!(said(&output).contains("./bad.mmdb is no country database"), "{}", said(&output));
        let running = installed.start(&["8080", "127.0.0.1:101"])?;
        let output = running.ctl_output("acl 1 deny country SE")?;
        let lacks = said(&output).contains("no country database");
        ensure!(output.status.code() == Some(1) && lacks, "{}", said(&output));
        turn(&mut connect()?)
    })
}
