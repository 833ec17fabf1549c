//! Inflates a block of bzip2.
//!
//! Undoing the Burrows-Wheeler transform follows one chain through the whole block, and waits for memory at each step. But a chain may
//! be entered anywhere: it is followed from many places, several at a time that wait together, each up to where another one began, and
//! the pieces are put in their order. Codes are looked up, where libbz2 reads bit by bit. A block counts only if it ends where it should
//! and has the checksum that it states; all others are left to libbz2.
//!
//! Source: J. Tsai, "bzip2 Format Specification", 2016; M. Burrows and D. Wheeler, SRC Research Report 124, 1994.

use std::array::from_fn;
use std::ops::Range;

/// What a block may inflate to here; one that is larger (up to 45 MB) is left to libbz2, which gives it piece by piece.
const INFLATED: usize = 1 << 22;

/// Pieces of a chain that are followed at a time.
const LANES: usize = 8;

/// Places in which a chain is entered; the more there are, the less the last of them are followed alone.
const PIECES: usize = 256;

const SYMBOLS: usize = 900_000;
const MARK_BITS: usize = 48;
const GROUP: usize = 50;
const LONGEST: usize = 20;
const LOOKED_UP: usize = 11;

/// In `Inflater::next`: a piece begins here.
const ENTERED: u32 = 1 << 8;

/// Inflates one block after another in the same memory.
pub struct Inflater {
    /// By place in the transformed block: the byte there (8 bits), `ENTERED`, and the place of what follows it in the text.
    next: Vec<u32>,
    lanes: [Vec<u8>; LANES],
    text: Vec<u8>,
    inflated: Vec<u8>,
}

/// A piece of the chain: its first entry, the one after its last, and where its bytes are.
struct Piece {
    first: u32,
    after: u32,
    lane: usize,
    bytes: Range<usize>,
}

impl Default for Inflater {
    fn default() -> Self {
        Inflater {
            next: Vec::new(),
            lanes: from_fn(|_| vec![0; SYMBOLS]), // of which little is touched
            text: Vec::new(),
            inflated: Vec::new(),
        }
    }
}

impl Inflater {
    /// What is in the block from bit `begin` of the data to bit `end`; None when it is left to libbz2.
    pub fn inflate(&mut self, data: &[u8], begin: usize, end: usize) -> Option<&[u8]> {
        let mut bits = Bits::new(data, begin.checked_add(MARK_BITS)?);
        let stated = bits.take(32);
        let origin = self.decode(&mut bits)?;
        if bits.at() != end {
            return None;
        }
        let first = self.next.get(origin)? >> 9;
        self.follow(first as usize)?;
        self.expand()?;
        (checksum(&self.inflated) == stated).then_some(&self.inflated)
    }

    /// Read a block; gives the place whose next one the text begins at.
    fn decode(&mut self, bits: &mut Bits) -> Option<usize> {
        if bits.take(1) == 1 {
            return None; // randomised, as versions before 0.9.5 did
        }
        let origin = bits.take(24) as usize;
        let mut front = [0_u8; 256];
        let mut used = 0;
        let rows = bits.take(16);
        for row in (0..16).filter(|row| rows >> (15 - row) & 1 == 1) {
            let columns = bits.take(16);
            for column in (0..16).filter(|column| columns >> (15 - column) & 1 == 1) {
                front[used] = row * 16 + column;
                used += 1;
            }
        }
        let tables = bits.take(3) as usize;
        let selectors = bits.take(15) as usize;
        if used == 0 || !(2..=6).contains(&tables) || selectors == 0 {
            return None;
        }
        let mut order = [0_usize, 1, 2, 3, 4, 5];
        let mut selected = Vec::with_capacity(selectors);
        for _ in 0..selectors {
            let mut place = 0;
            while bits.take(1) == 1 {
                place += 1;
                if place >= tables {
                    return None;
                }
            }
            order[..=place].rotate_right(1);
            selected.push(order[0]);
        }
        let mut codes = Vec::with_capacity(tables);
        for _ in 0..tables {
            codes.push(Code::read(bits, used + 2)?);
        }
        let counts = self.transformed(bits, &selected, &codes, &mut front, used)?;
        self.link(counts);
        Some(origin)
    }

    /// The transformed block into `next`, and how often each byte is in it.
    fn transformed(
        &mut self,
        bits: &mut Bits,
        selected: &[usize],
        codes: &[Code],
        front: &mut [u8; 256],
        used: usize,
    ) -> Option<[u32; 256]> {
        let next = &mut self.next;
        next.clear();
        next.reserve(SYMBOLS);
        let mut counts = [0_u32; 256];
        let (mut run, mut weight) = (0_usize, 1_usize);
        for &table in selected {
            let code = codes.get(table)?;
            for _ in 0..GROUP {
                let symbol = code.symbol(bits)?;
                if symbol <= 1 {
                    // The length of a run, in base 2 with the digits 1 and 2.
                    if weight > SYMBOLS {
                        return None;
                    }
                    run += weight << symbol;
                    weight <<= 1;
                    continue;
                }
                if run > 0 {
                    let byte = front[0];
                    if next.len() + run > SYMBOLS {
                        return None;
                    }
                    counts[usize::from(byte)] += run as u32;
                    next.resize(next.len() + run, u32::from(byte));
                    (run, weight) = (0, 1);
                }
                if symbol > used {
                    return Some(counts);
                }
                if next.len() >= SYMBOLS {
                    return None;
                }
                let place = symbol - 1;
                let byte = front[place];
                if place < 16 {
                    for at in (0..place).rev() {
                        front[at + 1] = front[at];
                    }
                } else {
                    front.copy_within(0..place, 1);
                }
                front[0] = byte;
                counts[usize::from(byte)] += 1;
                next.push(u32::from(byte));
            }
        }
        None
    }

    /// Say of each place which one follows it.
    fn link(&mut self, counts: [u32; 256]) {
        let mut first = [0_u32; 256];
        let mut sum = 0;
        for (first, count) in first.iter_mut().zip(counts) {
            *first = sum;
            sum += count;
        }
        for place in 0..self.next.len() {
            let byte = (self.next[place] & 0xff) as usize;
            self.next[first[byte] as usize] |= (place as u32) << 9;
            first[byte] += 1;
        }
    }

    /// Undo the transform: the text that begins at that place.
    fn follow(&mut self, first: usize) -> Option<()> {
        let size = self.next.len();
        let places = (0..PIECES).map(|piece| piece * size / PIECES);
        let mut begins: Vec<usize> = places.chain([first]).collect();
        begins.sort_unstable();
        begins.dedup();
        for &place in &begins {
            self.next[place] |= ENTERED;
        }
        let begins: Vec<u32> = begins.into_iter().map(|place| self.next[place]).collect();
        let first = self.next[first];
        let mut pieces = chase(&self.next, &mut self.lanes, &begins);
        pieces.sort_unstable_by_key(|piece| piece.first);
        self.text.clear();
        let mut at = first;
        while self.text.len() < size {
            let piece = &pieces[pieces.binary_search_by_key(&at, |piece| piece.first).ok()?];
            self.text
                .extend_from_slice(&self.lanes[piece.lane][piece.bytes.clone()]);
            at = piece.after;
        }
        // What is no one cycle, of a damaged block, may come to more.
        (self.text.len() == size).then_some(())
    }

    /// Undo the first stage of packing: four equal bytes are followed by how many more there are.
    fn expand(&mut self) -> Option<()> {
        let (text, inflated) = (&self.text, &mut self.inflated);
        inflated.clear();
        let (mut taken, mut at) = (0, 3);
        while at < text.len() {
            let byte = text[at];
            if text[at - 1] != byte {
                at += 1;
                continue;
            }
            if text[at - 2] != byte || text[at - 3] != byte {
                at += 1;
                continue;
            }
            if at + 1 == text.len() {
                return None;
            }
            inflated.extend_from_slice(&text[taken..=at]);
            let more = usize::from(text[at + 1]);
            if inflated.len() + more > INFLATED {
                return None;
            }
            inflated.resize(inflated.len() + more, byte);
            taken = at + 2;
            at = taken + 3;
        }
        inflated.extend_from_slice(&text[taken..]);
        (inflated.len() <= INFLATED).then_some(())
    }
}

/// Follow all pieces of the chain, `LANES` at a time; the bytes of each are in its lane.
fn chase(next: &[u32], lanes: &mut [Vec<u8>; LANES], begins: &[u32]) -> Vec<Piece> {
    let mut waiting = begins.iter().copied();
    let mut pieces = Vec::with_capacity(begins.len());
    // A lane that has nothing to do goes on from where it is, and nobody looks at it.
    let mut open = [None; LANES];
    let mut entries = [begins[0]; LANES];
    for (entry, open) in entries.iter_mut().zip(&mut open) {
        if let Some(begin) = waiting.next() {
            (*entry, *open) = (begin, Some((begin, 0)));
        }
    }
    let mut bytes = lanes.each_mut().map(|lane| &mut lane[..next.len()]);
    for step in 0..next.len() {
        let mut ended = 0;
        for (entry, bytes) in entries.iter_mut().zip(&mut bytes) {
            bytes[step] = *entry as u8;
            *entry = next[(*entry >> 9) as usize];
            ended |= *entry;
        }
        if ended & ENTERED == 0 {
            continue;
        }
        for (lane, (entry, open)) in entries.iter_mut().zip(&mut open).enumerate() {
            if *entry & ENTERED == 0 {
                continue;
            }
            if let Some((first, from)) = *open {
                pieces.push(Piece {
                    first,
                    after: *entry,
                    lane,
                    bytes: from..step + 1,
                });
                *open = waiting.next().map(|begin| (begin, step + 1));
                *entry = open.map_or(*entry, |(begin, _)| begin);
            }
        }
        if pieces.len() == begins.len() {
            break;
        }
    }
    pieces
}

/// A prefix code.
struct Code {
    /// By the next `LOOKED_UP` bits: the symbol, and how many bits it has; 0 bits where it has more.
    short: Vec<(u16, u8)>,
    /// By length: the first code that is longer, on the left of `LONGEST` bits.
    limits: [u32; LONGEST + 1],
    /// By length: what to take from a code for the place of its symbol.
    offsets: [u32; LONGEST + 1],
    symbols: Vec<u16>,
}

impl Code {
    fn read(bits: &mut Bits, count: usize) -> Option<Code> {
        let mut lengths = [0_u8; 258];
        let mut length = bits.take(5);
        for place in &mut lengths[..count] {
            loop {
                if !(1..=LONGEST as u32).contains(&length) {
                    return None;
                }
                if bits.take(1) == 0 {
                    break;
                }
                if bits.take(1) == 0 {
                    length += 1;
                } else {
                    length -= 1;
                }
            }
            *place = length as u8;
        }
        let lengths = &lengths[..count];
        let mut code = Code {
            short: vec![(0, 0); 1 << LOOKED_UP],
            limits: [0; LONGEST + 1],
            offsets: [0; LONGEST + 1],
            symbols: Vec::with_capacity(count),
        };
        let mut next = 0_u32;
        for length in 1..=LONGEST {
            next <<= 1;
            code.offsets[length] = next.wrapping_sub(code.symbols.len() as u32);
            for symbol in (0..count).filter(|&symbol| usize::from(lengths[symbol]) == length) {
                if next >> length != 0 {
                    return None; // more codes than there is room for
                }
                code.symbols.push(symbol as u16);
                if length <= LOOKED_UP {
                    let first = (next as usize) << (LOOKED_UP - length);
                    code.short[first..first + (1 << (LOOKED_UP - length))]
                        .fill((symbol as u16, length as u8));
                }
                next += 1;
            }
            code.limits[length] = next << (LONGEST - length);
        }
        Some(code)
    }

    #[inline(always)]
    fn symbol(&self, bits: &mut Bits) -> Option<usize> {
        let window = bits.peek();
        let (symbol, length) = self.short[(window >> (LONGEST - LOOKED_UP)) as usize];
        if length > 0 {
            bits.skip(usize::from(length));
            return Some(usize::from(symbol));
        }
        let length = (LOOKED_UP + 1..=LONGEST).find(|&length| window < self.limits[length])?;
        bits.skip(length);
        let place = (window >> (LONGEST - length)).wrapping_sub(self.offsets[length]);
        self.symbols
            .get(place as usize)
            .map(|&symbol| usize::from(symbol))
    }
}

/// Reads bits; after the end there are zeros.
struct Bits<'a> {
    data: &'a [u8],
    /// The byte that is read next.
    next: usize,
    /// Bits that were read, the next one at the top.
    window: u64,
    count: usize,
}

impl<'a> Bits<'a> {
    fn new(data: &'a [u8], at: usize) -> Self {
        let mut bits = Bits {
            data,
            next: at / 8,
            window: 0,
            count: 0,
        };
        bits.fill();
        bits.skip(at % 8);
        bits
    }

    /// Where the next bit is.
    fn at(&self) -> usize {
        self.next * 8 - self.count
    }

    #[inline(always)]
    fn fill(&mut self) {
        if let Some(bytes) = self.data.get(self.next..self.next + 8) {
            let mut eight = [0; 8];
            eight.copy_from_slice(bytes);
            self.window |= u64::from_be_bytes(eight) >> self.count;
            let taken = (63 - self.count) / 8;
            self.next += taken;
            self.count += taken * 8;
            // What is beyond the bytes that count would be there twice.
            self.window &= !(u64::MAX >> self.count);
        } else {
            while self.count <= 56 {
                let byte = self.data.get(self.next).copied().unwrap_or(0);
                self.window |= u64::from(byte) << (56 - self.count);
                self.next += 1;
                self.count += 8;
            }
        }
    }

    /// The next `LONGEST` bits.
    #[inline(always)]
    fn peek(&mut self) -> u32 {
        if self.count < 32 {
            self.fill();
        }
        (self.window >> (64 - LONGEST)) as u32
    }

    #[inline(always)]
    fn skip(&mut self, count: usize) {
        self.window <<= count;
        self.count -= count;
    }

    /// So many bits, at most 32.
    fn take(&mut self, count: usize) -> u32 {
        if self.count < count {
            self.fill();
        }
        let found = (self.window >> (64 - count)) as u32;
        self.skip(count);
        found
    }
}

const POLYNOMIAL: u32 = 0x04c1_1db7;

/// By place among eight bytes and by byte: what it adds to the checksum of all that follow.
static TABLES: [[u32; 256]; 8] = tables();

const fn tables() -> [[u32; 256]; 8] {
    let mut tables = [[0_u32; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut value = (byte as u32) << 24;
        let mut bit = 0;
        while bit < 8 {
            value = value << 1 ^ if value >> 31 == 1 { POLYNOMIAL } else { 0 };
            bit += 1;
        }
        tables[0][byte] = value;
        byte += 1;
    }
    let mut place = 1;
    while place < 8 {
        let mut byte = 0;
        while byte < 256 {
            let before = tables[place - 1][byte];
            tables[place][byte] = before << 8 ^ tables[0][(before >> 24) as usize];
            byte += 1;
        }
        place += 1;
    }
    tables
}

/// bzip2's CRC-32: the polynomial of zlib's, highest bit first.
fn checksum(data: &[u8]) -> u32 {
    let mut value = u32::MAX;
    let mut eights = data.chunks_exact(8);
    for eight in &mut eights {
        let first = value ^ u32::from_be_bytes([eight[0], eight[1], eight[2], eight[3]]);
        value = TABLES[7][(first >> 24) as usize]
            ^ TABLES[6][(first >> 16 & 0xff) as usize]
            ^ TABLES[5][(first >> 8 & 0xff) as usize]
            ^ TABLES[4][(first & 0xff) as usize]
            ^ TABLES[3][usize::from(eight[4])]
            ^ TABLES[2][usize::from(eight[5])]
            ^ TABLES[1][usize::from(eight[6])]
            ^ TABLES[0][usize::from(eight[7])];
    }
    for &byte in eights.remainder() {
        value = value << 8 ^ TABLES[0][((value >> 24) as u8 ^ byte) as usize];
    }
    !value
}
