//! Recognises the ordinary forms of Atlas pings and traceroutes, and parses them straight into Arrow columns.
//!
//! What a record means is said in `ingest/parse.py`. This crate takes only records whose form leaves no doubt, and gives back
//! the numbers of all others; so it may be left out, and results are the same. Python calls the functions below through
//! ctypes, which lets go of the interpreter's lock; nothing of Python is needed to build it.

mod address;
mod columns;
mod json;
mod record;

use std::panic::catch_unwind;

use columns::{Arrays, Buffer};
use record::{Kind, Tables};

/// What this library was built from: in a checkout Python compares it with what lies there.
const SOURCES: [&[u8]; 6] = [
    include_bytes!("../Cargo.toml"),
    include_bytes!("address.rs"),
    include_bytes!("columns.rs"),
    include_bytes!("json.rs"),
    include_bytes!("lib.rs"),
    include_bytes!("record.rs"),
];

/// Whether these are the sources of this library, one after the other.
///
/// # Safety
/// `sources` points to `size` bytes.
#[no_mangle]
pub unsafe extern "C" fn ordinary_is_made_of(sources: *const u8, size: usize) -> bool {
    SOURCES.concat() == std::slice::from_raw_parts(sources, size)
}

/// Parse a batch. What is returned must be given to `ordinary_free`; null when this crate has a bug.
///
/// # Safety
/// `data` points to `size` bytes, `begin` and `end` to `count` numbers each.
#[no_mangle]
pub unsafe extern "C" fn ordinary_recognise(
    data: *const u8,
    size: usize,
    begin: *const i64,
    end: *const i64,
    count: usize,
) -> *mut Arrays {
    let data = std::slice::from_raw_parts(data, size);
    let begin = std::slice::from_raw_parts(begin, count);
    let end = std::slice::from_raw_parts(end, count);
    match catch_unwind(|| recognise(data, begin, end)) {
        Ok(arrays) => Box::into_raw(Box::new(arrays)),
        Err(_) => std::ptr::null_mut(),
    }
}

/// Where the description of the arrays is (`Arrays::description`), and through `length` how long it is.
///
/// # Safety
/// `arrays` comes from `ordinary_recognise` and was not freed.
#[no_mangle]
pub unsafe extern "C" fn ordinary_description(
    arrays: *const Arrays,
    length: *mut usize,
) -> *const u64 {
    *length = (*arrays).description.len();
    (*arrays).description.as_ptr()
}

/// Free the arrays.
///
/// # Safety
/// `arrays` comes from `ordinary_recognise`; nobody reads its buffers any more.
#[no_mangle]
pub unsafe extern "C" fn ordinary_free(arrays: *mut Arrays) {
    drop(Box::from_raw(arrays));
}

/// The kind of each record, then the columns of pings, then those of traceroutes.
fn recognise(data: &[u8], begin: &[i64], end: &[i64]) -> Arrays {
    let mut tables = Tables::default();
    let addressable = i32::try_from(data.len()).is_ok();
    let kinds = begin.iter().zip(end).map(|(&begin, &end)| {
        let within = usize::try_from(begin).ok().zip(usize::try_from(end).ok());
        match within.and_then(|(begin, end)| data.get(begin..end)) {
            Some(record) if addressable => tables.add(record) as u8,
            _ => Kind::Odd as u8,
        }
    });
    let kinds: Vec<u8> = kinds.collect();
    let mut arrays = Arrays::default();
    arrays.begin(kinds.len());
    arrays.no_buffer();
    arrays.buffer(Buffer::Bytes(kinds));
    tables.finish(&mut arrays);
    arrays
}
