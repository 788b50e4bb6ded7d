//! The lab: nodes, links and faults in network namespaces.

pub mod bench;
