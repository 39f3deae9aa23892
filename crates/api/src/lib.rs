//! What the daemon's HTTP API takes and gives, and a client of it.
