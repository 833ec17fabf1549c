//! The ordinary forms of ping and traceroute records, of firmware 4570 and later. `ingest/parse.py` says what each means; what
//! is not one of them with certainty is left to it.

use crate::address::compress;
use crate::columns::{Arrays, Flags, Integers, Lists, Numbers, Texts, NONE};
use crate::json::{Cursor, Odd, Sure};

/// What became of a record, as Python reads it.
#[derive(Clone, Copy, PartialEq)]
pub enum Kind {
    Odd = 0,
    Ping = 1,
    Traceroute = 2,
}

/// Firmware whose names and sizes are those of today.
const FIRST_FIRMWARE: i64 = 4570;
/// Seconds since 1970 that are in no doubt a time: 2010 to 2038.
const TIMES: std::ops::RangeInclusive<i64> = 1_262_304_000..=2_147_483_647;
const MAX_RTT_MS: f64 = 100_000.0;

/// Says that a key is there; a key that is there twice is odd.
#[inline(always)]
fn once(seen: &mut u32, bit: u32) -> Sure<()> {
    if *seen & 1 << bit != 0 {
        return Err(Odd);
    }
    *seen |= 1 << bit;
    Ok(())
}

fn within<T: PartialOrd>(value: T, range: std::ops::RangeInclusive<T>) -> Sure<T> {
    if range.contains(&value) {
        Ok(value)
    } else {
        Err(Odd)
    }
}

fn rtt_ms(cursor: &mut Cursor) -> Sure<f64> {
    within(cursor.number()?, 0.0..=MAX_RTT_MS)
}

fn integer_or_null(cursor: &mut Cursor) -> Sure<i64> {
    if cursor.null()? {
        return Ok(NONE);
    }
    cursor.integer()
}

fn time_us(cursor: &mut Cursor) -> Sure<i64> {
    Ok(within(cursor.integer()?, TIMES)? * 1_000_000)
}

fn time_or_null_us(cursor: &mut Cursor) -> Sure<i64> {
    if cursor.null()? {
        return Ok(NONE);
    }
    time_us(cursor)
}

fn star(cursor: &mut Cursor) -> Sure<()> {
    if cursor.string()? == b"*" {
        Ok(())
    } else {
        Err(Odd)
    }
}

/// The fields that pings and traceroutes share, of one record.
struct Head<'a> {
    seen: u32,
    msm_id: i64,
    probe_id: i64,
    timestamp: i64,
    stored: i64,
    end: i64,
    af: i64,
    target: Option<&'a [u8]>,
    target_name: Option<&'a [u8]>,
    probe_address: Option<&'a [u8]>,
    source_address: Option<&'a [u8]>,
    protocol: Option<&'static [u8]>,
    firmware: i64,
    clock_age: i64,
    size: i64,
    ttl: i64,
    paris_id: i64,
    synthetic: bool,
    kind: Kind,
}

impl<'a> Head<'a> {
    fn new() -> Self {
        Head {
            seen: 0,
            msm_id: NONE,
            probe_id: NONE,
            timestamp: NONE,
            stored: NONE,
            end: NONE,
            af: NONE,
            target: None,
            target_name: None,
            probe_address: None,
            source_address: None,
            protocol: None,
            firmware: NONE,
            clock_age: NONE,
            size: NONE,
            ttl: NONE,
            paris_id: NONE,
            synthetic: false,
            kind: Kind::Odd,
        }
    }

    /// Take a member of the record, all but `result`.
    #[inline(always)]
    fn member(&mut self, cursor: &mut Cursor<'a>, key: &'a [u8]) -> Sure<()> {
        let seen = &mut self.seen;
        match key {
            b"af" => {
                once(seen, 0)?;
                self.af = integer_or_null(cursor)?;
            }
            b"dst_addr" => {
                once(seen, 1)?;
                self.target = Some(cursor.string()?);
            }
            b"dst_name" => {
                once(seen, 2)?;
                self.target_name = Some(cursor.string()?);
            }
            b"endtime" => {
                once(seen, 3)?;
                self.end = time_us(cursor)?;
            }
            b"from" => {
                once(seen, 4)?;
                self.probe_address = Some(cursor.string()?);
            }
            b"fw" => {
                once(seen, 5)?;
                self.firmware = cursor.integer()?;
                within(self.firmware, FIRST_FIRMWARE..=i64::MAX)?;
            }
            b"lts" => {
                once(seen, 6)?;
                self.clock_age = integer_or_null(cursor)?;
            }
            b"msm_id" => {
                once(seen, 7)?;
                self.msm_id = within(cursor.integer()?, 0..=i64::MAX)?;
            }
            b"paris_id" => {
                once(seen, 8)?;
                self.paris_id = integer_or_null(cursor)?;
            }
            b"prb_id" => {
                once(seen, 9)?;
                self.probe_id = within(cursor.integer()?, 0..=i64::MAX)?;
            }
            b"proto" => {
                once(seen, 10)?;
                self.protocol = Some(match cursor.string()? {
                    b"ICMP" => b"ICMP",
                    b"UDP" => b"UDP",
                    b"TCP" => b"TCP",
                    _ => return Err(Odd),
                });
            }
            b"size" => {
                once(seen, 11)?;
                self.size = integer_or_null(cursor)?;
            }
            b"src_addr" => {
                once(seen, 12)?;
                self.source_address = Some(cursor.string()?);
            }
            b"stored_timestamp" => {
                once(seen, 13)?;
                self.stored = time_or_null_us(cursor)?;
            }
            b"synthetic" => {
                once(seen, 14)?;
                self.synthetic = cursor.boolean()?;
            }
            b"timestamp" => {
                once(seen, 15)?;
                self.timestamp = time_us(cursor)?;
            }
            b"ttl" => {
                once(seen, 16)?;
                self.ttl = integer_or_null(cursor)?;
            }
            b"type" => {
                once(seen, 17)?;
                self.kind = match cursor.string()? {
                    b"ping" => Kind::Ping,
                    b"traceroute" => Kind::Traceroute,
                    _ => return Err(Odd),
                };
            }
            // Names of the first firmwares, and a firmware's names with a stray blank.
            b"addr"
            | b"address"
            | b"mode"
            | b"name"
            | b"paris-id"
            | b"pf"
            | b"srcaddr"
            | [b' ', ..] => return Err(Odd),
            _ => cursor.skip()?,
        }
        Ok(())
    }
}

#[derive(Default)]
struct SharedColumns {
    msm_id: Integers,
    probe_id: Integers,
    timestamp: Integers,
    stored: Integers,
    af: Integers,
    target: Texts,
    target_name: Texts,
    probe_address: Texts,
    source_address: Texts,
    protocol: Texts,
    firmware: Integers,
    clock_age: Integers,
    size: Integers,
    synthetic: Flags,
}

impl SharedColumns {
    /// Add a row. Whatever can be odd is found before any column grows.
    fn push(&mut self, head: &Head, scratch: &mut [Vec<u8>; 3]) -> Sure<()> {
        if head.msm_id == NONE || head.probe_id == NONE || head.timestamp == NONE {
            return Err(Odd);
        }
        let [target, probe, source] = scratch;
        let mut family = NONE;
        if let Some(text) = head.target {
            family = compress(text, target)?;
        }
        // Some probes write "" for an address that they do not know.
        let probe_address = head.probe_address.filter(|text| !text.is_empty());
        if let Some(text) = probe_address {
            compress(text, probe)?;
        }
        let source_address = head.source_address.filter(|text| !text.is_empty());
        let mut source_family = NONE;
        if let Some(text) = source_address {
            source_family = compress(text, source)?;
        }
        if family == NONE {
            family = match head.af {
                4 | 6 => head.af,
                _ => source_family,
            };
        }
        self.msm_id.0.push(head.msm_id);
        self.probe_id.0.push(head.probe_id);
        self.timestamp.0.push(head.timestamp);
        self.stored.0.push(head.stored);
        self.af.0.push(family);
        self.target.push(head.target.map(|_| &target[..]));
        self.target_name.push(head.target_name);
        self.probe_address.push(probe_address.map(|_| &probe[..]));
        self.source_address
            .push(source_address.map(|_| &source[..]));
        self.protocol.push(head.protocol);
        self.firmware.0.push(head.firmware);
        self.clock_age.0.push(head.clock_age);
        self.size.0.push(head.size);
        self.synthetic.0.push(head.synthetic);
        Ok(())
    }

    fn finish(self, arrays: &mut Arrays) {
        self.msm_id.finish(arrays);
        self.probe_id.finish(arrays);
        self.timestamp.finish(arrays);
        self.stored.finish(arrays);
        self.af.finish(arrays);
        self.target.finish(arrays);
        self.target_name.finish(arrays);
        self.probe_address.finish(arrays);
        self.source_address.finish(arrays);
        self.protocol.finish(arrays);
        self.firmware.finish(arrays);
        self.clock_age.finish(arrays);
        self.size.finish(arrays);
        self.synthetic.finish(arrays);
    }
}

#[derive(Default)]
struct Counts {
    received: i64,
    lost: i64,
    duplicates: i64,
    errors: i64,
    min: f64,
    sum: f64,
    max: f64,
}

#[derive(Default)]
struct Pings {
    shared: SharedColumns,
    sent: Integers,
    received: Integers,
    duplicates: Integers,
    errors: Integers,
    min: Numbers,
    mean: Numbers,
    max: Numbers,
    replies: Lists,
    rtt: Numbers,
    ttl: Integers,
    duplicate: Flags,
    error: Texts,
}

impl Pings {
    fn truncate_replies(&mut self, length: usize) {
        self.rtt.0.truncate(length);
        self.ttl.0.truncate(length);
        self.duplicate.0.truncate(length);
        self.error.truncate(length);
    }

    /// Add the packets of a ping.
    fn packets(&mut self, cursor: &mut Cursor) -> Sure<Counts> {
        let mut counts = Counts {
            min: f64::INFINITY,
            max: f64::NEG_INFINITY,
            ..Counts::default()
        };
        cursor.array(|cursor| self.packet(cursor, &mut counts))?;
        if counts.received + counts.lost + counts.duplicates + counts.errors == 0 {
            return Err(Odd);
        }
        Ok(counts)
    }

    fn packet(&mut self, cursor: &mut Cursor, counts: &mut Counts) -> Sure<()> {
        let (mut seen, mut rtt, mut ttl, mut duplicate, mut error) =
            (0, f64::NAN, NONE, false, None);
        cursor.object(|cursor, key| {
            match key {
                b"rtt" => {
                    once(&mut seen, 0)?;
                    rtt = rtt_ms(cursor)?;
                }
                b"x" => {
                    once(&mut seen, 1)?;
                    star(cursor)?;
                }
                b"error" => {
                    once(&mut seen, 2)?;
                    error = Some(cursor.string()?);
                }
                b"dup" => {
                    once(&mut seen, 3)?;
                    duplicate = cursor.mark()?;
                }
                b"ttl" => {
                    once(&mut seen, 4)?;
                    ttl = cursor.integer()?;
                }
                _ => cursor.skip()?,
            }
            Ok(())
        })?;
        match (duplicate, seen & 0b111) {
            (true, 0b001 | 0b000) => counts.duplicates += 1,
            (false, 0b001) => {
                counts.received += 1;
                counts.min = counts.min.min(rtt);
                counts.sum += rtt; // from left to right, as the careful parser does
                counts.max = counts.max.max(rtt);
            }
            (false, 0b010) => counts.lost += 1,
            (false, 0b100) => counts.errors += 1,
            _ => return Err(Odd),
        }
        self.rtt.0.push(rtt);
        self.ttl.0.push(ttl);
        self.duplicate.0.push(duplicate);
        self.error.push(error);
        Ok(())
    }

    fn push(
        &mut self,
        head: &Head,
        counts: &Counts,
        first: usize,
        scratch: &mut [Vec<u8>; 3],
    ) -> Sure<()> {
        self.shared.push(head, scratch)?;
        // A reply states its TTL only where it differs.
        for (ttl, rtt) in self.ttl.0[first..].iter_mut().zip(&self.rtt.0[first..]) {
            if *ttl == NONE && !rtt.is_nan() {
                *ttl = head.ttl;
            }
        }
        let answered = counts.received > 0;
        let known = |value: f64| if answered { value } else { f64::NAN };
        self.sent.0.push(counts.received + counts.lost);
        self.received.0.push(counts.received);
        self.duplicates.0.push(counts.duplicates);
        self.errors.0.push(counts.errors);
        self.min.0.push(known(counts.min));
        self.mean.0.push(known(counts.sum / counts.received as f64));
        self.max.0.push(known(counts.max));
        self.replies.close(self.rtt.0.len());
        Ok(())
    }

    fn finish(self, arrays: &mut Arrays) {
        self.shared.finish(arrays);
        self.sent.finish(arrays);
        self.received.finish(arrays);
        self.duplicates.finish(arrays);
        self.errors.finish(arrays);
        self.min.finish(arrays);
        self.mean.finish(arrays);
        self.max.finish(arrays);
        self.replies.finish(self.rtt.0.len(), arrays);
        self.rtt.finish(arrays);
        self.ttl.finish(arrays);
        self.duplicate.finish(arrays);
        self.error.finish(arrays);
    }
}

#[derive(Default)]
struct Traceroutes<'a> {
    shared: SharedColumns,
    end: Integers,
    paris_id: Integers,
    error: Texts,
    hops: Lists,
    hop: Integers,
    hop_error: Texts,
    replies: Lists,
    address: Texts,
    rtt: Numbers,
    ttl: Integers,
    size: Integers,
    icmp_error: Texts,
    late: Integers,
    duplicate: Flags,
    /// The sender of the reply before, as it was written and compressed: in a hop it is mostly the same.
    last_sender: &'a [u8],
    last_address: Vec<u8>,
}

impl<'a> Traceroutes<'a> {
    fn truncate(&mut self, hops: usize, replies: usize) {
        self.hop.0.truncate(hops);
        self.hop_error.truncate(hops);
        self.replies.truncate(hops);
        self.address.truncate(replies);
        self.rtt.0.truncate(replies);
        self.ttl.0.truncate(replies);
        self.size.0.truncate(replies);
        self.icmp_error.truncate(replies);
        self.late.0.truncate(replies);
        self.duplicate.0.truncate(replies);
    }

    /// Add the hops; the trouble that the probe had with the whole traceroute.
    fn hops(&mut self, cursor: &mut Cursor<'a>) -> Sure<Option<&'a [u8]>> {
        let (mut items, mut trouble) = (0, None);
        cursor.array(|cursor| {
            items += 1;
            self.item(cursor, &mut trouble)
        })?;
        if items == 0 {
            return Err(Odd);
        }
        Ok(trouble)
    }

    fn item(&mut self, cursor: &mut Cursor<'a>, trouble: &mut Option<&'a [u8]>) -> Sure<()> {
        let (mut seen, mut hop, mut error, mut reply_error) = (0, NONE, None, None);
        cursor.object(|cursor, key| {
            match key {
                b"hop" => {
                    once(&mut seen, 0)?;
                    hop = within(cursor.integer()?, 0..=255)?;
                }
                b"result" => {
                    once(&mut seen, 1)?;
                    cursor.array(|cursor| self.reply(cursor, &mut reply_error))?;
                }
                b"error" => {
                    once(&mut seen, 2)?;
                    error = Some(cursor.string()?);
                }
                _ => cursor.skip()?,
            }
            Ok(())
        })?;
        match seen {
            0b100 => *trouble = error,
            0b011 | 0b101 | 0b111 => {
                self.hop.0.push(hop);
                self.hop_error.push(error.or(reply_error));
                self.replies.close(self.rtt.0.len());
            }
            _ => return Err(Odd),
        }
        Ok(())
    }

    fn reply(&mut self, cursor: &mut Cursor<'a>, trouble: &mut Option<&'a [u8]>) -> Sure<()> {
        let (mut seen, mut sender, mut error, mut icmp_error) = (0, &b""[..], None, None);
        let (mut rtt, mut ttl, mut size, mut late, mut duplicate) =
            (f64::NAN, NONE, NONE, NONE, false);
        cursor.object(|cursor, key| {
            match key {
                b"from" => {
                    once(&mut seen, 0)?;
                    sender = cursor.string()?;
                }
                b"x" => {
                    once(&mut seen, 1)?;
                    star(cursor)?;
                }
                b"error" => {
                    once(&mut seen, 2)?;
                    error = Some(cursor.string()?);
                }
                b"rtt" => {
                    once(&mut seen, 3)?;
                    rtt = rtt_ms(cursor)?;
                }
                b"ttl" => {
                    once(&mut seen, 4)?;
                    ttl = cursor.integer()?;
                }
                b"size" => {
                    once(&mut seen, 5)?;
                    size = cursor.integer()?;
                }
                b"err" => {
                    once(&mut seen, 6)?;
                    icmp_error = Some(match cursor.string() {
                        Ok(letter) => letter,
                        Err(Odd) => cursor.integer_and_text()?.1,
                    });
                }
                b"late" => {
                    once(&mut seen, 7)?;
                    late = cursor.integer()?;
                }
                b"dup" => {
                    once(&mut seen, 8)?;
                    duplicate = cursor.mark()?;
                }
                _ => cursor.skip()?,
            }
            Ok(())
        })?;
        match seen & 0b111 {
            0b001 => {
                if sender != self.last_sender || sender.is_empty() {
                    self.last_sender = b"";
                    compress(sender, &mut self.last_address)?;
                    self.last_sender = sender;
                }
                self.address.push(Some(&self.last_address));
            }
            0b010 if seen == 0b010 => self.address.push(None),
            0b100 if seen == 0b100 => {
                *trouble = error;
                return Ok(());
            }
            _ => return Err(Odd),
        }
        self.rtt.0.push(rtt);
        self.ttl.0.push(ttl);
        self.size.0.push(size);
        self.icmp_error.push(icmp_error);
        self.late.0.push(late);
        self.duplicate.0.push(duplicate);
        Ok(())
    }

    fn push(
        &mut self,
        head: &Head,
        trouble: Option<&[u8]>,
        scratch: &mut [Vec<u8>; 3],
    ) -> Sure<()> {
        self.shared.push(head, scratch)?;
        self.end.0.push(head.end);
        self.paris_id.0.push(head.paris_id);
        self.error.push(trouble);
        self.hops.close(self.hop.0.len());
        Ok(())
    }

    fn finish(self, arrays: &mut Arrays) {
        self.shared.finish(arrays);
        self.end.finish(arrays);
        self.paris_id.finish(arrays);
        self.error.finish(arrays);
        self.hops.finish(self.hop.0.len(), arrays);
        self.hop.finish(arrays);
        self.hop_error.finish(arrays);
        self.replies.finish(self.rtt.0.len(), arrays);
        self.address.finish(arrays);
        self.rtt.finish(arrays);
        self.ttl.finish(arrays);
        self.size.finish(arrays);
        self.icmp_error.finish(arrays);
        self.late.finish(arrays);
        self.duplicate.finish(arrays);
    }
}

/// The packets or hops of a record, by the kind it was read as.
enum Inside<'a> {
    Packets(Counts),
    Hops(Option<&'a [u8]>),
}

#[derive(Default)]
pub struct Tables<'a> {
    pings: Pings,
    traceroutes: Traceroutes<'a>,
    scratch: [Vec<u8>; 3],
}

impl<'a> Tables<'a> {
    /// Add a record to the table of its kind; an odd one leaves the tables as they were.
    pub fn add(&mut self, record: &'a [u8]) -> Kind {
        let packets = self.pings.rtt.0.len();
        let (hops, replies) = (self.traceroutes.hop.0.len(), self.traceroutes.rtt.0.len());
        match self.record(record, packets) {
            Ok(kind) => kind,
            Err(Odd) => {
                self.pings.truncate_replies(packets);
                self.traceroutes.truncate(hops, replies);
                Kind::Odd
            }
        }
    }

    fn record(&mut self, record: &'a [u8], packets: usize) -> Sure<Kind> {
        let (hops, replies) = (self.traceroutes.hop.0.len(), self.traceroutes.rtt.0.len());
        let mut head = Head::new();
        let (mut result, mut inside) = (None, Err(Odd));
        let mut cursor = Cursor::new(record);
        cursor.object(|cursor, key| {
            if key != b"result" {
                return head.member(cursor, key);
            }
            if result.is_some() {
                return Err(Odd);
            }
            // The type mostly comes after the result: it is guessed from how that begins.
            let before = cursor.clone();
            let kind = if looks_like_hops(cursor.clone()) {
                Kind::Traceroute
            } else {
                Kind::Ping
            };
            inside = self.inside(kind, cursor);
            if inside.is_err() {
                *cursor = before.clone();
                cursor.skip()?;
            }
            result = Some(before);
            Ok(())
        })?;
        cursor.end()?;
        let guessed = match inside {
            Ok(Inside::Packets(_)) => Kind::Ping,
            Ok(Inside::Hops(_)) => Kind::Traceroute,
            Err(Odd) => Kind::Odd,
        };
        if guessed != head.kind {
            self.pings.truncate_replies(packets);
            self.traceroutes.truncate(hops, replies);
            inside = self.inside(head.kind, &mut result.ok_or(Odd)?);
        }
        match inside? {
            Inside::Packets(counts) => {
                self.pings
                    .push(&head, &counts, packets, &mut self.scratch)?
            }
            Inside::Hops(trouble) => self.traceroutes.push(&head, trouble, &mut self.scratch)?,
        }
        Ok(head.kind)
    }

    fn inside(&mut self, kind: Kind, cursor: &mut Cursor<'a>) -> Sure<Inside<'a>> {
        match kind {
            Kind::Ping => self.pings.packets(cursor).map(Inside::Packets),
            Kind::Traceroute => self.traceroutes.hops(cursor).map(Inside::Hops),
            Kind::Odd => Err(Odd),
        }
    }

    pub fn finish(self, arrays: &mut Arrays) {
        self.pings.finish(arrays);
        self.traceroutes.finish(arrays);
    }
}

fn looks_like_hops(mut cursor: Cursor) -> bool {
    let mut first_key = &b""[..];
    // The first member is enough: the walk ends there as if it were odd.
    let _ = cursor.array(|cursor| {
        cursor.object(|_, key| {
            first_key = key;
            Err(Odd)
        })
    });
    first_key == b"hop"
}
