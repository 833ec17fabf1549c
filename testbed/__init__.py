"""A seeded synthetic Internet with a known truth, which speaks the RIPE Atlas API v2 over https.

It serves demos without a network, load, and questions whose answer reality never gives. It is no model of
any real network, and nothing measured on it is a claim of accuracy: every object that it serves says
`"synthetic": true`, its addresses are ones that are never routed, its AS numbers ones that are never assigned.

    cities      real places, drawn by population
    topology    autonomous systems, routers, links between them   (cities -> topology)
    addresses   which never-routed address each router and host has
    announcements  which system announces which prefix
    internet    topology + hosts: `SyntheticInternet.generate`    (the whole, fixed by a seed)
    routes      valley-free shortest paths between routers
    events      what happens when: a link fails, a link is congested
    weather     utilisation, delay and loss of links and paths at a time
    truth       the same, to be asked for one pair: floor, expected RTT, loss, route
    campaign    who measures whom when: the measurements and their schedule
    packets     what becomes of single packets, drawn from the weather
    atlas_json  Atlas's JSON shapes
    habits      probes that are old, late, or wrong about the time
    firmware    what older firmware makes of a result
    oddities    the rarer forms of traceroutes
    expected    what a faultless reader would make of the results
    clock       a time that is moved by hand, for those who play an hour in seconds
    faults      which request is answered badly, and how
    api         what is answered to which path and query
    stream      results over a websocket as they are stored
    certificate, server   all of it over TLS on loopback
    chance      random numbers that are a function of what they are for

Weather has no memory: what a result says follows from (internet, events, measurement, probe, timestamp) alone, so
any slice of time in any order gives the same bytes.
"""
