//! A short form of the failure matrix: one fault, once, on all three pairs. The figures are `make matrix`'s; here it is shown that
//! each pair can be measured, and that what comes out is what is known of it.

use std::time::Duration;

use anyhow::{Result, ensure};
use cygnet_lab::enter;
use cygnet_lab::figures::figure;
use cygnet_lab::matrix::{Contender, Fault, Trial, measure};

fn tried(contender: Contender, fault: Fault, interval: Duration) -> Result<Trial> {
    let trial = measure(contender, fault, interval)?;
    let Trial { gap_ms, failed, .. } = &trial;
    let what = format!("matrix, {fault:?}, {}", contender.name());
    figure(&what, &format!("gap {gap_ms:.0} ms, {failed} requests failed"));
    Ok(trial)
}

/// Its death is the death of the election as well, and so is noticed.
#[test]
fn a_killed_node_of_cygnet_is_replaced() -> Result<()> {
    let interval = Duration::from_millis(100);
    enter::lab(|| {
        let trial = tried(Contender::Cygnet, Fault::ProcessKilled, interval)?;
        ensure!(trial.recovered && trial.holders == ["lb2"], "{trial:?}");
        Ok(())
    })
}

#[test]
fn a_killed_haproxy_leaves_the_address_where_nobody_serves() -> Result<()> {
    enter::lab(|| {
        let trial = tried(Contender::Keepalived, Fault::ProcessKilled, Duration::from_millis(100))?;
        ensure!(!trial.recovered && trial.holders == ["lb1"], "{trial:?}");
        Ok(())
    })
}

#[test]
fn ucarp_with_pen_can_be_measured_beside_them() -> Result<()> {
    enter::lab(|| {
        let trial = tried(Contender::Ucarp, Fault::PortCut, Duration::from_secs(1))?;
        ensure!(trial.recovered && trial.failed > 0, "{trial:?}");
        Ok(())
    })
}
