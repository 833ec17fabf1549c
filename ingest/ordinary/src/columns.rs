//! Columns as Arrow lays them out in memory: values, offsets, and a bit a row that says whether there is a value.

/// The memory of an Arrow array.
pub enum Buffer {
    Bytes(Vec<u8>),
    Offsets(Vec<i32>),
    Integers(Vec<i64>),
    Numbers(Vec<f64>),
}

impl Buffer {
    fn address_and_size(&self) -> [u64; 2] {
        fn of<T>(values: &[T]) -> [u64; 2] {
            [values.as_ptr() as u64, std::mem::size_of_val(values) as u64]
        }
        match self {
            Buffer::Bytes(values) => of(values),
            Buffer::Offsets(values) => of(values),
            Buffer::Integers(values) => of(values),
            Buffer::Numbers(values) => of(values),
        }
    }
}

/// Finished arrays, one after the other, parents before their children. `description` has for each array its length, then for
/// each of its buffers an address, or 0 where it needs none, and a size in bytes.
#[derive(Default)]
pub struct Arrays {
    pub description: Vec<u64>,
    buffers: Vec<Buffer>,
}

impl Arrays {
    pub fn begin(&mut self, length: usize) {
        self.description.push(length as u64);
    }

    pub fn buffer(&mut self, buffer: Buffer) {
        self.description.extend(buffer.address_and_size());
        self.buffers.push(buffer);
    }

    pub fn no_buffer(&mut self) {
        self.description.extend([0, 0]);
    }

    pub fn bits(&mut self, rows: impl ExactSizeIterator<Item = bool>) {
        let mut packed = vec![0_u8; (rows.len() + 7) / 8];
        for (index, row) in rows.enumerate() {
            packed[index / 8] |= u8::from(row) << (index % 8);
        }
        self.buffer(Buffer::Bytes(packed));
    }
}

/// Whole numbers; `NONE` where there is none.
#[derive(Default)]
pub struct Integers(pub Vec<i64>);

pub const NONE: i64 = i64::MIN;

impl Integers {
    pub fn finish(self, arrays: &mut Arrays) {
        arrays.begin(self.0.len());
        arrays.bits(self.0.iter().map(|&value| value != NONE));
        arrays.buffer(Buffer::Integers(self.0));
    }
}

/// Numbers; NaN where there is none.
#[derive(Default)]
pub struct Numbers(pub Vec<f64>);

impl Numbers {
    pub fn finish(self, arrays: &mut Arrays) {
        arrays.begin(self.0.len());
        arrays.bits(self.0.iter().map(|value| !value.is_nan()));
        arrays.buffer(Buffer::Numbers(self.0));
    }
}

#[derive(Default)]
pub struct Flags(pub Vec<bool>);

impl Flags {
    pub fn finish(self, arrays: &mut Arrays) {
        arrays.begin(self.0.len());
        arrays.no_buffer();
        arrays.bits(self.0.iter().copied());
    }
}

#[derive(Default)]
pub struct Texts {
    ends: Vec<i32>,
    there: Vec<bool>,
    bytes: Vec<u8>,
}

impl Texts {
    /// All texts of a batch are shorter than it, and it is shorter than 2 GiB.
    #[inline]
    pub fn push(&mut self, text: Option<&[u8]>) {
        self.there.push(text.is_some());
        self.bytes.extend_from_slice(text.unwrap_or_default());
        self.ends.push(self.bytes.len() as i32);
    }

    pub fn truncate(&mut self, length: usize) {
        self.ends.truncate(length);
        self.there.truncate(length);
        self.bytes
            .truncate(self.ends.last().map_or(0, |&end| end as usize));
    }

    pub fn finish(self, arrays: &mut Arrays) {
        arrays.begin(self.ends.len());
        arrays.bits(self.there.iter().copied());
        arrays.buffer(Buffer::Offsets(offsets(self.ends)));
        arrays.buffer(Buffer::Bytes(self.bytes));
    }
}

/// A list a row, by where each ends in the column of their elements. There are fewer of those than bytes in a batch.
#[derive(Default)]
pub struct Lists(Vec<i32>);

impl Lists {
    pub fn close(&mut self, end: usize) {
        self.0.push(end as i32);
    }

    pub fn truncate(&mut self, length: usize) {
        self.0.truncate(length);
    }

    /// The list, then the struct of `length` rows that is its element, whose columns follow.
    pub fn finish(self, length: usize, arrays: &mut Arrays) {
        arrays.begin(self.0.len());
        arrays.no_buffer();
        arrays.buffer(Buffer::Offsets(offsets(self.0)));
        arrays.begin(length);
        arrays.no_buffer();
    }
}

fn offsets(mut ends: Vec<i32>) -> Vec<i32> {
    ends.insert(0, 0);
    ends
}
