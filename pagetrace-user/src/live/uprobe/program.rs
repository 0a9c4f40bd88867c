//! A program that is loaded by us: aya knows no way to load one for several uprobes at once.
//!
//! The object is parsed and relocated once more, against the maps of the one that aya has loaded: so both have the
//! same maps, those that hold the load-time values included, and whatever aya was told about their sizes holds.

use std::collections::HashSet;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use aya::Ebpf;
use aya::maps::{Map, MapData};
use aya_obj::Object;
use aya_obj::generated::{bpf_attach_type, bpf_insn};

use super::{Way, sys};

/// Descriptors of an object's maps, by name.
#[derive(Clone)]
pub struct MapFds(Arc<Vec<(String, OwnedFd)>>);

impl MapFds {
    /// Those of an object that aya has loaded, before any is taken from it.
    pub fn of(ebpf: &Ebpf) -> io::Result<MapFds> {
        let maps = ebpf.maps().filter_map(|(name, map)| Some((name, data_of(map)?)));
        let copies = maps.map(|(name, data)| Ok((name.to_owned(), data.fd().as_fd().try_clone_to_owned()?)));
        Ok(MapFds(Arc::new(copies.collect::<io::Result<_>>()?)))
    }
}

/// The kinds of maps that the object has.
fn data_of(map: &Map) -> Option<&MapData> {
    match map {
        Map::Array(data) | Map::ArrayOfMaps(data) | Map::HashMap(data) | Map::PerCpuArray(data) => Some(data),
        _ => None,
    }
}

/// A program, ready to be loaded.
pub struct Program {
    name: String,
    instructions: Vec<bpf_insn>,
    license: CString,
    /// In the kernel, by the kind of attachment that it was loaded for: the verifier takes its time once for each.
    loaded: Mutex<Vec<(u32, Arc<Loaded>)>>,
    /// The instructions name them by number.
    _maps: Option<MapFds>,
}

/// A program in the kernel.
pub struct Loaded(OwnedFd);

impl Loaded {
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Program {
    /// A program of an object whose maps are these.
    ///
    /// *Errors.* The object has no such program, or names a map that is not there.
    pub fn of_object(object: &[u8], name: &str, maps: MapFds) -> io::Result<Program> {
        let mut object = Object::parse(object).map_err(io::Error::other)?;
        let described = std::mem::take(&mut object.maps);
        let sections: HashSet<usize> = object.functions.keys().map(|(section, _)| *section).collect();
        let pairs = described.iter().filter_map(|(name, map)| {
            let (_, fd) = maps.0.iter().find(|(known, _)| known == name)?;
            Some((name.as_str(), fd.as_raw_fd(), map))
        });
        object.relocate_maps(pairs, &sections).map_err(io::Error::other)?;
        object.relocate_calls(&sections).map_err(io::Error::other)?;
        let found = object.programs.get(name).and_then(|program| object.functions.get(&program.function_key()));
        let function = found.ok_or_else(|| io::Error::other(format!("the object has no program {name}")))?;
        Ok(Program {
            name: name.to_owned(),
            instructions: function.instructions.clone(),
            license: object.license.clone(),
            loaded: Mutex::default(),
            _maps: Some(maps),
        })
    }

    /// A program that does nothing.
    #[must_use]
    pub fn nothing() -> Program {
        // r0 = 0; exit. SANITY: two whole instructions; the kernel would refuse none at all.
        let code = [0xb7, 0, 0, 0, 0, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0];
        Program {
            name: "pt_nothing".to_owned(),
            instructions: aya_obj::copy_instructions(&code).unwrap_or_default(),
            license: c"Dual MIT/GPL".to_owned(),
            loaded: Mutex::default(),
            _maps: None,
        }
    }

    /// Loads it, to be attached in this way; once for all that are.
    pub(super) fn load(&self, way: Way) -> io::Result<Arc<Loaded>> {
        let attach_type = match way {
            Way::Multi | Way::MultiReturns => bpf_attach_type::BPF_TRACE_UPROBE_MULTI as u32,
            Way::Session => sys::BPF_TRACE_UPROBE_SESSION,
            Way::Perf | Way::PerfReturns => 0,
        };
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, known)) = loaded.iter().find(|(kind, _)| *kind == attach_type) {
            return Ok(Arc::clone(known));
        }
        let new = Arc::new(Loaded(sys::load(&self.name, &self.instructions, &self.license, attach_type)?));
        loaded.push((attach_type, Arc::clone(&new)));
        Ok(new)
    }
}
