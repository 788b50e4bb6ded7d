//! The verdict, the socket, the shapes, and a node that is not there for the tests of both ends.

pub(crate) mod fake;
mod shapes;
mod socket;
mod verdict;
