# How well spatial_domains() divides tissues whose parts are known, and how many parts it finds.
#
#   Rscript bench/domains.R [tissues of each kind] [first seed] [folder of data]
#
# Layers of the kinds of bench/layers.R.
# `supported` says whether any factor was (else there is one domain); what else is given is the adjusted Rand
# index with the true parts, of the mixture given their number, of the mixture that chooses
# it, and of k-means of principal components (of spots, and of the means of seven neighbours).
#
# What was chosen where: the number of axes, the weight of equal variances and the strength of neighbours on
# seeds 1 to 8; axes before factors are turned on seeds 1 to 15. The rest on these kinds and those of
# bench/factors.R; the adjusted Rand index given the number is
#
#   what each spot has of its own counts (errors independent; ten designs, seeds 1 to 6)
#   .1 everywhere (.2; .3)                              .834 (.841; .838)
#   c times the ratio of variances, from .1 to .4, c = .05 (.1; .15; .2)
#                                                       .841 (.848; .850; .850)
#   .15 times the ratio, to .3 (.5; .6)                 .845 (.846; .846)
#
#   errors of spots up to two steps apart, rho 0 (.5; .6; .7; .8), nine designs, seeds 1 to 4
#                                                       .753 (.791; .793; .803; .797)
#   degrees of freedom 30 (3; 5; 10), rho .7            .797 (.742; .778; .793)
#
# One step apart .8 is as good in rings, but makes domains of borders in large bands; three steps are as good
# as two. On untouched tissues (seeds 7 to 12, eleven designs, 66 tissues) the index is .806 with neither,
# .833 with the share, .876 with both and 10 degrees of freedom (with 30, .873, but two odd spots were a
# domain of their own): with bulbs .660, .670 and .785 (components .640), with programs of 256 spots .562,
# .595 and .802 (components .564), with mixtures of 400 spots, whose layers are two spots wide, .548, .546 and
# .498, with 400 cells .788, .788 and .771: those two lose.
#
# The best objective is not the best division: started from the truth, errors independent, mixtures of bulbs
# and programs found it again with .07 more and a lower objective, because a division of a smooth field
# looked like a gain at each spot. No better: errors whitened by what differs between neighbours or by what
# spots have of their own (.70 to .81 against .82), other metrics of the axes (.74 to .80 against .79), fewer
# axes (.69 to .83 against .83), votes of several shares and weights (.84 to .85 against .85), and means
# blurred by neighbours' domains (labels alternate).
#
# The penalty for each domain, a quarter of what the first two divisions gain on the average, was chosen with
# independent errors, on 72 tissues. Of 58 tissues of seeds 1 to 5 the number is wrong by .47 on the average,
# the index .84 as with the true number; shares of .15, .2 and .3 err by .53, .34 and .57; on 44 untouched
# ones (seeds 7 to 10) .82 (index .84, .87 with the true number), and .95, .84 and .75: it was left. From
# means over neighbours, where `beta` is low: of the cells of seeds 1 to 12 and 202 below (which was looked
# at), whose own variance is the larger, three are at .22 to .28, and their index becomes .59 to .81 instead
# of .21 to .41, all others at .43 or more; of tissues whose smooth variance is the larger, ten at .298 to
# .34 would have .61 instead of .76. So the border is .35 where the ratio of variances is below 2, else .25.
#
# Starts in the metric of the covariance found, up to three times, and less weight of equal variances (200
# locations, not 300, and above 1,000 locations less by the square of their number) were chosen on cortexes
# of seeds 1 to 4 and two variants of them (eight tissues) and on seeds 1 to 6 of the other kinds: started
# from the truth, cortexes had a lower objective, by less as equal variances counted less, and better starts
# had a higher one. With the number given, cortexes and variants .505 -> .640 (untouched seeds .511 -> .572;
# means of neighbours .406), the others .849 -> .860 (seeds 7 to 12 .876 -> .879). The best of many k-means
# for each start is worse (.55 against .60): starts must differ. Domains exchanged (two joined, one split)
# come to the same (.60). rho .9 and .97 are much worse (.36, 0).
#
# Of more than 5,000 spots, so many (every so many-th along the tree of places) find the start of all. Before, all
# spots took all starts up to 20,000, and beyond a single one. Programs, cortexes and mixtures of seed 41, the
# index with the number given, the objective in thousands, and the time of 2 to 10 domains:
#
#   spots      all starts                 every so many-th (to 5,000)     (to 2,500)
#    5,041     .61, .77, .90  407   108 s      .62, .63, .91  410   66 s      .61, .63, .91  411   47 s
#   10,000     .78, .85, .93  802   121 s      .78, .73, .93  809   54 s      .83, .86, .93  809   28 s
#   19,600     .73, .92      1064   157 s      .85, .92      1073   58 s      .87, .93      1073   28 s
#   22,500     (single) .87, .86, .94  2119   121 s      .87, .86, .94  2244   82 s      .87, .86, .95  2249   53 s
#
# With the number found all are alike (22,500 spots .61, .87, .94 and .62, .86, .94), but 2,500 found ten domains
# of seven in one cortex. On cortexes of 5,041 and 10,000 a single start of all came to .56 and .70.
#
# Probabilities are the mixture's to a power, chosen on 57 tissues (these kinds but the cortex, and some of
# bench/factors.R and bench/no_signal.R; seeds 21 to 23), the number of domains given or found:
#
#   power                        1     .7     .5     .4     .3    .25     .2
#   log loss, given           .536   .388   .298   .263   .250   .262   .304
#   log loss, found           .700   .509   .378   .322   .285   .286   .315
#
# On 40 untouched ones (seeds 31, 32), given: log loss .632 -> .273, right .898, probability .984 -> .896.
# Right of those from .5 to .7, to .9, to .99 and above: .61, .60, .73, .93 -> .66, .82, .95, .99. By kinds
# they are too high for layers of two or three spots (.83 to .84, .72 right) and cortexes (.85 and .70), too
# low for programs (.77 to .84, .89 to .97).
#
# Below, without bulbs, cortexes and placed cells, the index is .795 with the true number (.712 before all of
# this) and .775 with that found (.712), in cortexes .72 and .72, of placed cells .80 and .75; components are
# at .316, .28 and .04, means of neighbours at .565, .43 and .25. The number is right in 21 of 44, and wrong by
# one in 19. Of spots .885 are right, .885 by their probabilities. What is left: layers of two spots (mixtures of
# 400) are at .55, as means of neighbours (.57).
#
# Results, the same on every run: bench/results/domains.csv.
library(patina)

arguments <- commandArgs(trailingOnly = TRUE)
tissues <- if (length(arguments) > 0L) as.integer(arguments[[1L]]) else 4L
first <- if (length(arguments) > 1L) as.integer(arguments[[2L]]) else 201L
data <- if (length(arguments) > 2L) arguments[[3L]] else Sys.getenv("PATINA_DATA")
here <- dirname(sub("^--file=", "", grep("^--file=", commandArgs(), value = TRUE)))
source(file.path(here, "tissues.R"))
source(file.path(here, "layers.R"))
folder <- file.path(here, "results")
options(patina.threads = 2L)

components <- function(y) {
  parts <- svd(y - rep(colMeans(y), each = nrow(y)), nu = 10, nv = 0)
  parts$u * rep(parts$d[1:10], each = nrow(y))
}

one <- function(kind, ..., seed) {
  set.seed(seed)
  tissue <- get(kind)(...)
  tissue$counts <- tissue$counts[, colSums(tissue$counts) > 0]
  true <- max(tissue$area)
  factors <- suppressWarnings(spatial_factors(tissue$counts, tissue$xy, progress = FALSE))
  given <- spatial_domains(factors, true)
  chosen <- suppressWarnings(suppressMessages(spatial_domains(factors)))
  depth <- colSums(tissue$counts) / median(colSums(tissue$counts))
  y <- log1p(t(tissue$counts[rowMeans(tissue$counts > 0) >= 0.1, ]) / depth)
  near <- t(apply(as.matrix(dist(tissue$xy)), 1, \(d) order(d)[1:7]))
  around <- Reduce(`+`, lapply(1:7, \(k) y[near[, k], ])) / 7
  k_means <- \(x) {
    set.seed(1)
    rand(tissue$area, kmeans(x, true, nstart = 30, iter.max = 50)$cluster)
  }
  row <- data.frame(
    kind,
    spots = nrow(tissue$xy),
    seed,
    parts = true,
    supported = factors$supported,
    given = rand(tissue$area, given$domain),
    chosen = rand(tissue$area, chosen$domain),
    found = nlevels(chosen$domain),
    beta = attr(given, "patina")$beta,
    probability = mean(given$probability),
    right = sum(apply(table(given$domain, tissue$area), 1, max)) / nrow(tissue$xy),
    components = k_means(components(y)),
    neighbours = k_means(components(around))
  )
  print(row, digits = 2)
  row
}

designs <- list(
  list("programs", 16),
  list("programs", 32),
  list("bulb", 16),
  list("mixtures", 20),
  list("mixtures", 42),
  list("cortex", 60),
  list("cells", 400),
  list("cells", 1100)
)
if (!is.null(section)) {
  designs <- c(designs, list(list("placed", 4, 0.35), list("placed", 6, 0.35), list("placed", 6, 0.2)))
}
rows <- lapply(designs, function(design) {
  do.call(rbind, lapply(first - 1L + seq_len(tissues), \(seed) do.call(one, c(design, seed = seed))))
})
table <- do.call(rbind, rows)
round_to <- vapply(table, is.double, NA) & !names(table) %in% c("spots", "seed")
table[round_to] <- lapply(table[round_to], round, 3)
write.csv(table, file.path(folder, "domains.csv"), row.names = FALSE)
