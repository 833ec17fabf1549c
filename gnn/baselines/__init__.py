"""Baselines: simple predictors that every model is shown next to.

simple            what most share: a point, an interval of so many of the pair's deviations, a choice among options
past              what those share that look at the pair's own past: deviations, smoothed frequencies of loss
last_value        the latest value seen
ewma              an exponentially weighted mean of the past
rolling_median    the middle of the latest windows
seasonal_median   the median of the same slot on earlier days
levels            what those share that fit the levels of all pairs: a table of hosts by hosts
fibre_distance    a line over how long light takes in fibre
node_effects      each host makes all its paths longer by as much
low_rank          matrix factorisation
vivaldi           network coordinates with heights
nearest_places    what the pairs have whose ends are nearest
level_fits        what these fits say of every pair, as inputs of stronger models
nearest_profiles  what the pairs tell whose RTTs were most alike
told              what the mates of a pair tell of it
boosting          gradient-boosted trees on the pair itself
boosting_around   also on the other pairs of the window
trees             such trees as plain arrays
stack             a weighted mean of other baselines

Intervals of all are calibrated outside, by `gnn.conformal`.
"""
