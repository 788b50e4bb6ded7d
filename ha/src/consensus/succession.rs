//! The log goes over to another process of this node, and comes back if that one does not come up.
//!
//! The disk is the same, and so is the member: no other node learns of more than a connection that ended and came again. While nobody
//! has the log nothing can be agreed on with this node; leadership is handed over before.

use std::io;
use std::net::TcpListener;
use std::sync::PoisonError;

use tokio::runtime;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::handle::{Handle, StartError, open_core, talk};
use super::limits::{STOP_TIMEOUT, TICK};
use super::shared::Input;

impl Handle {
    /// A copy of the socket on which the other nodes come in; `None` when this node takes part no more.
    ///
    /// # Errors
    /// Out of descriptors.
    pub fn listener(&self) -> io::Result<Option<TcpListener>> {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.as_ref().map(|running| running.listener.try_clone()).transpose()
    }

    /// Hands leadership over if it is here, closes the log and the connections to the other nodes. Another process may open the log
    /// then. Who connects meanwhile waits in the queue of [`Handle::listener`].
    ///
    /// # Errors
    /// The thread is stuck, most likely in a write; [`Handle::resume`] makes good for that too.
    pub async fn suspend(&self) -> Result<(), String> {
        self.hand_over().await;
        let tasks = {
            let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
            running.as_mut().map(|running| std::mem::take(&mut running.tasks)).unwrap_or_default()
        };
        for task in &tasks {
            task.abort();
        }
        for task in tasks {
            let _ = task.await;
        }
        self.told(|reply| Input::Suspend { reply }).await
    }

    /// Goes on after [`Handle::suspend`]: nobody else may have the log open.
    ///
    /// # Errors
    /// The log cannot be opened; this node takes no part then, and traffic goes on.
    pub async fn resume(&self) -> Result<(), StartError> {
        let shared = self.shared.clone();
        let opened = tokio::task::spawn_blocking(move || open_core(&shared.settings)).await;
        let core = opened.unwrap_or_else(|error| Err(StartError::Thread(error.to_string())))?;
        let (reply, resumed) = oneshot::channel();
        if !self.shared.input(Input::Resume { core: Box::new(core), reply }) {
            return Err(StartError::Thread("it is too busy".to_owned()));
        }
        let _ = timeout(STOP_TIMEOUT, resumed).await;
        let runtime =
            runtime::Handle::try_current().map_err(|error| StartError::Thread(error.to_string()))?;
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(running) = running.as_mut() else { return Ok(()) };
        running.tasks = talk(&runtime, &self.shared, &running.listener)
            .map_err(|error| StartError::Thread(error.to_string()))?;
        Ok(())
    }

    /// Waits until the raft thread has done something.
    async fn told(&self, input: impl Fn(oneshot::Sender<()>) -> Input) -> Result<(), String> {
        let done = async {
            loop {
                let (reply, done) = oneshot::channel();
                if self.shared.input(input(reply)) {
                    return done.await.map_err(|_| "the raft thread has ended".to_owned());
                }
                tokio::time::sleep(TICK).await;
            }
        };
        let stuck = |_| "the raft thread is stuck; look at the disk".to_owned();
        timeout(STOP_TIMEOUT, done).await.map_err(stuck)?
    }
}
