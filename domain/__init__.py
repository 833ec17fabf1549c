"""The shared words: what every other package means by an observation, a window, a path state.

Standard library only. Nothing here reads, writes, learns or scores; the other packages pass these
types to each other:

    observation   one Atlas result, typed and validated        (ingest -> lake)
    path_state    one pair in one window, summarised           (ingest -> kg)
    link_state    two adjacent hops in one window              (ingest -> kg)
    probe         an Atlas probe or anchor, as its owner says  (ingest -> kg)
    selection     which paths a question is about              (app -> twin -> kg)
    path_quality  RTT, loss and jitter of a path               (kg -> qoe)
    application   the five applications
    number        counts in words
    window        half-open spans of UTC time
    provenance    who said it, where, when
    credentials   who we are to a server
    place         great circles and light in fibre
    cores         how many this process may use
    errors        the one error tree
"""
