//! placeholder
use anyhow::Result;
use std::ffi::OsString;
pub fn bench(_arguments: &[OsString]) -> Result<()> {
    crate::setup::setup(&[crate::setup::BUILD, crate::setup::BENCH])
}
