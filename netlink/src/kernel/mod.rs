//! Links, addresses and routes: a picture of them, what changes them, and news of their changes (rtnetlink).

mod changes;
pub(crate) mod message;
mod snapshot;

pub use changes::Changes;
pub use snapshot::{Address, Link, Route, RouteKind, Snapshot};

use std::io;
use std::net::IpAddr;

use futures_util::TryStreamExt;
use futures_util::stream::Stream;
use rtnetlink::RouteMessageBuilder;

/// Routes of the main table that a snapshot holds; the rest is left out and [`Snapshot::truncated`] says so. A table
/// of this size takes about 6 MB and a quarter of a second to read; whole internet tables do not belong on a balancer.
pub const ROUTES_MAX: usize = 65_536;

/// Links, and addresses, that a snapshot holds, likewise.
pub const LINKS_MAX: usize = 16_384;

/// A connection to the kernel's routing socket. Clones share it.
#[derive(Clone, Debug)]
pub struct Kernel {
    handle: rtnetlink::Handle,
}

impl Kernel {
    /// Connects. Must be called within a tokio runtime with I/O, on which a small task then lives until the last clone
    /// is dropped; requests fail once that runtime has ended. Reading needs no privilege, changing CAP_NET_ADMIN.
    pub fn connect() -> io::Result<Self> {
        let runtime = tokio::runtime::Handle::try_current().map_err(io::Error::other)?;
        // The third is a stream of multicast messages; this socket joins no group, so there are none.
        let (connection, handle, _) = rtnetlink::new_connection()?;
        runtime.spawn(connection);
        Ok(Self { handle })
    }

    /// Reads all links, addresses, and unicast routes of the main table.
    ///
    /// The kernel answers one question at a time: a change in between gives a picture of two moments, and a wake-up of
    /// [`Changes`].
    pub async fn snapshot(&self) -> io::Result<Snapshot> {
        let mut snapshot = Snapshot::default();
        let links = self.handle.link().get().execute();
        snapshot.truncated |=
            gather(links, LINKS_MAX, &mut snapshot.links, |m, into| into.extend(message::link(&m))).await?;
        let addresses = self.handle.address().get().execute();
        let into = &mut snapshot.addresses;
        snapshot.truncated |=
            gather(addresses, LINKS_MAX, into, |m, into| into.extend(message::address(&m))).await?;
        for request in [
            RouteMessageBuilder::<std::net::Ipv4Addr>::new().build(),
            RouteMessageBuilder::<std::net::Ipv6Addr>::new().build(),
        ] {
            let routes = self.handle.route().get(request).execute();
            let into = &mut snapshot.routes;
            snapshot.truncated |= gather(routes, ROUTES_MAX, into, message::routes).await?;
        }
        Ok(snapshot)
    }

    /// Adds an address as /32 or /128 to the interface with this index, so that the kernel never picks it as a source:
    /// IPv6 also without duplicate detection (it would delay a take-over by a second) and with a preferred lifetime of 0.
    /// Kernels from 5.18 on are told that the address is ours ([`Address::ours`]).
    ///
    /// `Ok(true)`: it was new. `Ok(false)`: it was there. Errors: no such interface (`ENODEV`), no permission.
    pub async fn add_address(&self, interface: u32, address: IpAddr) -> io::Result<bool> {
        let mut request = self.handle.address().add(interface, address, message::host_prefix(address));
        *request.message_mut() = message::own_address(interface, address);
        match request.execute().await.map_err(io_error) {
            Ok(()) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Removes an address from the interface with this index if it is there as exactly /32 or /128. The same address
    /// with a shorter prefix is somebody else's and stays.
    ///
    /// `Ok(true)`: it was there. `Ok(false)`: it was not, or the interface is gone.
    pub async fn remove_address(&self, interface: u32, address: IpAddr) -> io::Result<bool> {
        let message = message::exact_address(interface, address);
        match self.handle.address().del(message).execute().await.map_err(io_error) {
            Ok(()) => Ok(true),
            Err(error) if was_absent(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Watches links, addresses and routes. Must be called within a tokio runtime with I/O.
    pub fn watch() -> io::Result<Changes> {
        Changes::open()
    }
}

/// Whether the kernel refused to remove an address because it was not there, or its interface was not.
pub(crate) fn was_absent(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EADDRNOTAVAIL | libc::ENODEV))
}

/// Reads the answers to one question into a list, up to `limit` items. Says whether some were left out.
async fn gather<M, T>(
    answers: impl Stream<Item = Result<M, rtnetlink::Error>>,
    limit: usize,
    into: &mut Vec<T>,
    convert: impl Fn(M, &mut Vec<T>),
) -> io::Result<bool> {
    let mut answers = std::pin::pin!(answers);
    while let Some(message) = answers.try_next().await.map_err(io_error)? {
        convert(message, into);
        if into.len() > limit {
            into.truncate(limit);
            return Ok(true);
        }
    }
    Ok(false)
}

fn io_error(error: rtnetlink::Error) -> io::Error {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io(),
        other => io::Error::other(other),
    }
}

#[cfg(test)]
mod tests;
