"""What every contestant meets alike: who comes, when is sent and learned, when rewards arrive.

`schedule` is how a run is cut into batches, `feedback` how late and how lossy rewards are, `worlds`
what R replications of an environment bring. Nothing here knows who is playing.
"""
