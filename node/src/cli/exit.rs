//! How a command ends.

use std::io;
use std::process::ExitCode;

use crate::control::types::{ApiError, ErrorCode};

/// The exit codes; scripts rely on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Ok = 0,
    /// Failed.
    Error = 1,
    /// The command line makes no sense.
    Usage = 2,
    /// Something differs, or would change.
    Differs = 3,
    /// The pair is degraded or down (`status --check`).
    Degraded = 4,
    /// Too few voters can be reached to decide anything.
    NoQuorum = 5,
    /// Refused: a precondition does not hold, or it was not confirmed.
    Refused = 6,
    /// No answer within the time allowed.
    TimedOut = 7,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

impl From<ErrorCode> for Exit {
    fn from(code: ErrorCode) -> Self {
        match code {
            ErrorCode::Error | ErrorCode::Invalid | ErrorCode::NotFound | ErrorCode::Unreachable => {
                Self::Error
            }
            ErrorCode::Usage => Self::Usage,
            ErrorCode::NoQuorum => Self::NoQuorum,
            ErrorCode::Refused | ErrorCode::Forbidden => Self::Refused,
            ErrorCode::TimedOut => Self::TimedOut,
        }
    }
}

/// Why a command stopped before its end.
pub(super) enum Stop {
    /// It failed.
    Failed(ApiError),
    /// Its output could not be written.
    Output(io::Error),
}

impl From<ApiError> for Stop {
    fn from(error: ApiError) -> Self {
        Self::Failed(error)
    }
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

/// What a command comes to.
pub(super) type Outcome = Result<Exit, Stop>;
