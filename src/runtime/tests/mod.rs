//! Containers launched for real, as root and as a user, looked at from the inside.

mod bed;
mod joined;
mod launched;
