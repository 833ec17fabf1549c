"""Outside -> observation -> lake -> path state. Nothing else reads Atlas's JSON.

    source      what every source is to the rest
    atlas       the Atlas API, through cousteau's classes         -> batches of raw records, parsed
    stream      the Atlas stream, its gaps filled from the API    -> likewise
    heard       until when what streams brought is in the lake
    files       files in any container, compression and archive   -> likewise, on all cores
    archives    the files in a tar or a zip
    compression gzip, bzip2, xz, zstd, told by their first bytes; what can be saved of a cut file is
    bzip2       the blocks of one bzip2 file, inflated side by side
    stopping    what is waited for, until told to stop
    workers     the threads that readers of files share
    json_records where the records of a file begin and end
    json_array  where the elements of one JSON array begin and end
    batch       what passes between a source, the parser and the lake
    parse       raw records                                       -> Arrow tables of observations
    ordinary    raw records of ordinary form, faster (Rust)       -> the same columns; all other records stay with parse
    columns     the Arrow schemas, derived from the domain's classes
    lake        observations                                      -> Parquet, exactly once
    lake_files  what is in a file of the lake, and how it is written whole
    answers     what was asked about single files of the lake, kept
    quarantine  which records in quarantine are meant, and how they are shown
    manifest    which files the lake is made of, and what each commit touched
    sqlite_file a small SQLite file that remembers something
    earlier_lake files of a lake of before the manifest, taken over
    probes      lists of probes and anchors                       -> the lake's probe table
    probe_words what was said of probes and when              -> what is known, and since when until when
    prefixes    who announces which prefix, from a file           -> the longest prefix that holds an address
    mrt         routing tables                                    -> who announces which prefix
    table       anybody's RTT samples, and nodes                  -> Arrow tables of samples, and of probes
    known_samples samples that are read again                     -> what they add to those that are known
    countries   names of countries                                -> ISO 3166 codes
    places      distances, and what is faster than light, in SQL
    summarise   the lake -> path states, link states, hop links, measured targets

The data's way through here: a source's `read()` gives parsed batches, `with lake.landing() as landing` takes each by
`landing.add(parsed)`, then `summarise.summarise(lake, window)`.
"""
