//! A cursor over the JSON of one record. It takes less than JSON allows, and never more: what it passes over is JSON that
//! every reader reads alike.

/// Not an error: a form that is left to the careful parser.
#[derive(Debug)]
pub struct Odd;

pub type Sure<T> = Result<T, Odd>;

/// How deep values that nobody asks for may be nested.
const MAX_DEPTH: u32 = 32;

/// How long a number may be: none of this length is out of a double's range.
const MAX_NUMBER: usize = 25;

/// Bytes of a string that mean themselves: printable ASCII without `"` and `\`.
const PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut byte = 0x20;
    while byte < 0x7f {
        plain[byte] = byte != b'"' as usize && byte != b'\\' as usize;
        byte += 1;
    }
    plain
};

#[derive(Clone)]
pub struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Cursor { bytes, at: 0 }
    }

    /// The next byte; 0, which no JSON holds, at the end.
    #[inline(always)]
    fn here(&self) -> u8 {
        self.bytes.get(self.at).copied().unwrap_or(0)
    }

    #[inline(always)]
    fn pass_blanks(&mut self) {
        while matches!(self.here(), b' ' | b'\t' | b'\n' | b'\r') {
            self.at += 1;
        }
    }

    /// The first byte of the next value.
    #[inline(always)]
    fn next(&mut self) -> u8 {
        self.pass_blanks();
        self.here()
    }

    #[inline(always)]
    fn take(&mut self, byte: u8) -> bool {
        let there = self.next() == byte;
        // Not `self.at += usize::from(there)`, which rustc 1.95 (LLVM 22.1.2) with optimisation loses in `string`.
        if there {
            self.at += 1;
        }
        there
    }

    #[inline(always)]
    fn expect(&mut self, byte: u8) -> Sure<()> {
        if self.take(byte) {
            Ok(())
        } else {
            Err(Odd)
        }
    }

    /// Nothing but blanks is left.
    pub fn end(&mut self) -> Sure<()> {
        self.pass_blanks();
        if self.at == self.bytes.len() {
            Ok(())
        } else {
            Err(Odd)
        }
    }

    /// A string of plain bytes.
    #[inline(always)]
    pub fn string(&mut self) -> Sure<&'a [u8]> {
        self.expect(b'"')?;
        let rest = &self.bytes[self.at..];
        let length = rest
            .iter()
            .position(|&byte| !PLAIN[usize::from(byte)])
            .ok_or(Odd)?;
        if rest[length] != b'"' {
            return Err(Odd);
        }
        self.at += length + 1;
        Ok(&rest[..length])
    }

    /// Each member of an object: its key, with the cursor before its value, which `each` must pass.
    #[inline(always)]
    pub fn object(&mut self, mut each: impl FnMut(&mut Self, &'a [u8]) -> Sure<()>) -> Sure<()> {
        self.expect(b'{')?;
        if self.take(b'}') {
            return Ok(());
        }
        loop {
            let key = self.string()?;
            self.expect(b':')?;
            each(self, key)?;
            if !self.take(b',') {
                return self.expect(b'}');
            }
        }
    }

    /// Each element of an array, with the cursor before it, which `each` must pass.
    #[inline(always)]
    pub fn array(&mut self, mut each: impl FnMut(&mut Self) -> Sure<()>) -> Sure<()> {
        self.expect(b'[')?;
        if self.take(b']') {
            return Ok(());
        }
        loop {
            each(self)?;
            if !self.take(b',') {
                return self.expect(b']');
            }
        }
    }

    /// Whether the next value is `null`, which is then passed.
    #[inline(always)]
    pub fn null(&mut self) -> Sure<bool> {
        if self.next() == b'n' {
            self.word(b"null")?;
            return Ok(true);
        }
        Ok(false)
    }

    pub fn boolean(&mut self) -> Sure<bool> {
        match self.next() {
            b't' => self.word(b"true").map(|()| true),
            b'f' => self.word(b"false").map(|()| false),
            _ => Err(Odd),
        }
    }

    /// `true`, `false`, or a digit that stands alone: how Atlas writes marks.
    pub fn mark(&mut self) -> Sure<bool> {
        match self.next() {
            b't' | b'f' => self.boolean(),
            _ => Ok(self.integer()? != 0),
        }
    }

    fn word(&mut self, word: &[u8]) -> Sure<()> {
        if self.bytes[self.at..].starts_with(word) {
            self.at += word.len();
            Ok(())
        } else {
            Err(Odd)
        }
    }

    /// A number without an exponent: its text, and where in it the fraction's digits begin, if it has one.
    #[inline(always)]
    fn number_text(&mut self) -> Sure<(&'a [u8], Option<usize>)> {
        self.pass_blanks();
        let begin = self.at;
        if self.here() == b'-' {
            self.at += 1;
        }
        let whole = self.at;
        self.pass_digits()?;
        if self.bytes[whole] == b'0' && self.at > whole + 1 {
            return Err(Odd);
        }
        let mut fraction = None;
        if self.here() == b'.' {
            self.at += 1;
            fraction = Some(self.at - begin);
            self.pass_digits()?;
        }
        if matches!(self.here(), b'e' | b'E') || self.at - begin > MAX_NUMBER {
            return Err(Odd);
        }
        Ok((&self.bytes[begin..self.at], fraction))
    }

    #[inline(always)]
    fn pass_digits(&mut self) -> Sure<()> {
        let begin = self.at;
        while self.here().is_ascii_digit() {
            self.at += 1;
        }
        if self.at > begin {
            Ok(())
        } else {
            Err(Odd)
        }
    }

    /// A whole number of at most 18 digits. `-0` is odd: it is no integer to every reader.
    #[inline(always)]
    pub fn integer(&mut self) -> Sure<i64> {
        Ok(self.integer_and_text()?.0)
    }

    #[inline(always)]
    pub fn integer_and_text(&mut self) -> Sure<(i64, &'a [u8])> {
        let (text, fraction) = self.number_text()?;
        let negative = text[0] == b'-';
        let digits = &text[usize::from(negative)..];
        if fraction.is_some() || digits.len() > 18 || (negative && digits == b"0") {
            return Err(Odd);
        }
        let size = digits
            .iter()
            .fold(0_i64, |sum, digit| sum * 10 + i64::from(digit - b'0'));
        Ok((if negative { -size } else { size }, text))
    }

    /// A number that is not negative, as the double nearest to it.
    #[inline(always)]
    pub fn number(&mut self) -> Sure<f64> {
        let (text, fraction) = self.number_text()?;
        if text[0] == b'-' {
            return Err(Odd);
        }
        let decimals = fraction.map_or(0, |begin| text.len() - begin);
        if text.len() <= 19 {
            let digits = text
                .iter()
                .filter(|&&byte| byte != b'.')
                .fold(0_u64, |sum, digit| sum * 10 + u64::from(digit - b'0'));
            // Both numbers are exact, and one division rounds once (Clinger 1990).
            if digits < 1 << 53 {
                return Ok(digits as f64 / POWERS_OF_TEN[decimals]);
            }
        }
        let text = std::str::from_utf8(text).map_err(|_| Odd)?;
        text.parse().map_err(|_| Odd)
    }

    /// Any value, which nobody asks for.
    pub fn skip(&mut self) -> Sure<()> {
        self.skip_nested(MAX_DEPTH)
    }

    fn skip_nested(&mut self, depth: u32) -> Sure<()> {
        if depth == 0 {
            return Err(Odd);
        }
        match self.next() {
            b'"' => self.string().map(|_| ()),
            b'{' => self.object(|inner, _| inner.skip_nested(depth - 1)),
            b'[' => self.array(|inner| inner.skip_nested(depth - 1)),
            b't' | b'f' => self.boolean().map(|_| ()),
            b'n' => self.word(b"null"),
            _ => self.number_text().map(|_| ()),
        }
    }
}

const POWERS_OF_TEN: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
    1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
];
