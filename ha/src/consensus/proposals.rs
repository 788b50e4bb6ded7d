//! What an operator may ask for: each is one entry of the log, and the caller waits until it is applied here.

use super::handle::{Committed, Handle, ProposeError};
use crate::state::{Admin, ConfirmConfig, Kind, PutConfig, ReturnConfig, SetServer};

impl Handle {
    /// Makes `put` the configuration of the cluster. Returns when it is agreed and applied here.
    ///
    /// # Errors
    /// Says why not, and what helps; within a bounded time.
    pub async fn put_config(&self, put: PutConfig) -> Result<Committed, ProposeError> {
        self.propose(Kind::PutConfig(put)).await
    }

    /// Confirms version `version`, which waits for it.
    ///
    /// # Errors
    /// Says why not, and what helps; within a bounded time.
    pub async fn confirm_config(&self, version: u64, author: &str) -> Result<Committed, ProposeError> {
        self.propose(Kind::ConfirmConfig(ConfirmConfig { version, author: author.to_owned() })).await
    }

    /// Brings the version before `back.version` back, which waits for its confirmation.
    ///
    /// # Errors
    /// Says why not, and what helps; within a bounded time.
    pub async fn return_config(&self, back: ReturnConfig) -> Result<Committed, ProposeError> {
        self.propose(Kind::ReturnConfig(back)).await
    }

    /// Drains a server or makes it ready. Returns when it is agreed and applied here.
    ///
    /// # Errors
    /// Says why not, and what helps; within a bounded time.
    pub async fn set_server(
        &self,
        service: &str,
        server: &str,
        admin: Admin,
    ) -> Result<Committed, ProposeError> {
        let set = SetServer { service: service.to_owned(), server: server.to_owned(), state: admin as i32 };
        self.propose(Kind::SetServer(set)).await
    }
}
