//! Recognises the ordinary forms of Atlas pings and traceroutes, and parses them straight into Arrow columns; inflates blocks of bzip2.
//!
//! What a record means is said in `ingest/parse.py`, what a block holds by libbz2. This crate takes only what leaves no doubt, and
//! gives back all else; so it may be left out, and results are the same. Python calls the functions below through
//! ctypes, which lets go of the interpreter's lock; nothing of Python is needed to build it.

mod address;
mod bzip2;
mod columns;
mod json;
mod record;

use std::cell::RefCell;
use std::panic::{catch_unwind, AssertUnwindSafe};

use bzip2::Inflater;
use columns::{Arrays, Buffer};
use record::{Kind, Tables};

/// What this library was built from: in a checkout Python compares it with what lies there.
const SOURCES: [&[u8]; 7] = [
    include_bytes!("../Cargo.toml"),
    include_bytes!("address.rs"),
    include_bytes!("bzip2.rs"),
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

thread_local! {
    static INFLATER: RefCell<Inflater> = RefCell::default();
}

/// Inflate the block of bzip2 between two bits of the data. Returns where its content lies until the same thread calls this again,
/// and through `length` how long it is; null for a block that is left to libbz2.
///
/// # Safety
/// `data` points to `size` bytes.
#[no_mangle]
pub unsafe extern "C" fn ordinary_inflate(
    data: *const u8,
    size: usize,
    begin: usize,
    end: usize,
    length: *mut usize,
) -> *const u8 {
    let data = std::slice::from_raw_parts(data, size);
    let work = || {
        INFLATER.with(|inflater| {
            let mut inflater = inflater.borrow_mut();
            inflater
                .inflate(data, begin, end)
                .map(|found| (found.as_ptr(), found.len()))
        })
    };
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Some((content, size))) => {
            *length = size;
            content
        }
        _ => std::ptr::null(), // libbz2 also does what a bug of this crate leaves undone
    }
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
