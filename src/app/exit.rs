//! How the process ends: a contract with service managers and scripts.

/// The exit codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done; a server was told to stop and every request in flight was answered, those left after
    /// `http.drain_s` with a refusal.
    Ok,
    /// Something failed while running: an image could not be read, the port was taken, or a server
    /// was told to stop a second time and cut its connections. Nothing is broken, but not everything
    /// was answered, and a script must be able to tell.
    Failure,
    /// The arguments make no sense.
    Usage,
    /// A bug: the supervisor died, or a job was lost. Start the process again and report it.
    Internal,
    /// The device is gone or the machine is short of something; starting again may help.
    TryAgain,
    /// The configuration is wrong; starting again will not help.
    Config,
    /// What a child exited with: the code of one that cannot be helped, or that was asked to end.
    Child(u8),
}

impl Exit {
    /// The number, as in sysexits.h where it has one.
    pub fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Failure => 1,
            Self::Usage => 2,
            Self::Internal => 70,
            Self::TryAgain => 75,
            Self::Config => 78,
            Self::Child(code) => code,
        }
    }
}
