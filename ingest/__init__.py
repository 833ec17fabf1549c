"""Outside -> observation -> lake -> path state. Nothing else reads Atlas's JSON.

    atlas       the Atlas API, through cousteau's classes         -> batches of raw records
    files       NDJSON and JSON arrays, plain or compressed       -> batches of raw records
    compression gzip, bzip2, xz, told by their first bytes; what can be saved of a cut file is
    json_array  where the elements of a JSON array begin and end
    parse       raw records                                       -> Arrow tables of observations
    columns     the Arrow schemas, derived from the domain's classes
    lake        observations                                      -> Parquet, exactly once
    probes      lists of probes and anchors                       -> the lake's probe table
    probe_words what was said of probes and when              -> what is known, and since when until when
    prefixes    who announces which prefix, from a file           -> the longest prefix that holds an address
    mrt         routing tables                                    -> who announces which prefix
    table       anybody's RTT samples, and nodes                  -> Arrow tables of samples, and of probes
    places      distances, and what is faster than light, in SQL
    summarise   the lake -> path states, link states, hop links, measured targets

The data's way through here: `files.parse_file(path)` or `parse.parse_batch(batch)` for each batch of
`AtlasSource.results(...)`, then `Lake.land(parsed)`, then `summarise.summarise(lake, window)`.
"""
