//! `ctr network …`.

pub mod doctor;
