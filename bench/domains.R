# How well spatial_domains() divides tissues whose parts are known, and how many parts it finds.
#
#   Rscript bench/domains.R [tissues of each kind] [first seed] [folder of data]
#
# Layers of counts like those of real sections, in six kinds:
#   programs  260 or 1,024 spots in rings, as an olfactory bulb has: two strong programs and a weak one, which
#             vary within layers too, beside weak smooth fields and what cells differ in;
#   bulb      260 spots in rings, with four programs as strong, as smooth, and as well predicted at left-out
#             spots as those of two real bulbs (whose layers had no part in it);
#   mixtures  400 or 1,764 spots in bands, as a cortex has: every spot a mixture of 14 types of cells, of
#             which each layer has one of its own;
#   cortex    3,600 spots in seven bands of types of cells, as in mixtures, but with shares of types and
#             activities of cells that vary along layers too, so that k-means of components and of means of
#             neighbours come to .19 to .30 and .35 to .51, as on real sections;
#   cells     400 or 1,100 cells in bands, each of one type, of 12 or more;
#   placed    1,050 cells of a real section (MERFISH, its 155 genes, expression rounded) placed anew in four
#             or six bands, each with a type of neurons of its own, beside some of the next one's, other
#             neurons, and glia that lie everywhere. Left out without the data.
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
folder <- file.path(here, "results")
options(patina.threads = 2L)

scattered <- function(n) {
  width <- sqrt(n) * 1.6
  candidates <- cbind(x = runif(4 * n, 0, width), y = runif(4 * n, 0, n / width))
  kept <- integer()
  for (i in seq_len(4 * n)) {
    away <- (candidates[kept, 1] - candidates[i, 1])^2 + (candidates[kept, 2] - candidates[i, 2])^2
    if (all(away > 0.25)) {
      kept <- c(kept, i)
    }
  }
  candidates[utils::head(kept, n), ]
}

blurred <- function(xy, x, width) {
  weights <- exp(-as.matrix(dist(xy))^2 / (2 * width^2))
  weights %*% x / rowSums(weights)
}

rings <- function(xy) {
  centred <- scale(xy, scale = FALSE)
  angle <- atan2(centred[, 2], centred[, 1])
  phase <- runif(3, 0, 2 * pi)
  wave <- 0.18 *
    cos(2 * angle + phase[1]) +
    0.1 * sin(3 * angle + phase[2]) +
    0.05 * cos(5 * angle + phase[3])
  rank(sqrt(rowSums(centred^2)) * (1 + wave)) / nrow(xy)
}

bands <- function(xy) {
  angle <- runif(1, 0, pi)
  size <- diff(range(xy))
  centred <- scale(xy, scale = FALSE)
  across <- centred %*% c(-sin(angle), cos(angle))
  along <- centred %*% c(cos(angle), sin(angle)) + 0.08 * size * sin(4 * across / size + runif(1, 0, 2 * pi))
  rank(along + 0.25 * across^2 / size) / nrow(xy)
}

parts <- function(along, widths) {
  widths <- widths * runif(length(widths), 0.7, 1.3)
  findInterval(along, utils::head(cumsum(widths) / sum(widths), -1)) + 1
}

counted <- function(rates, depth, dispersion) {
  rates <- rates * rep(depth, each = nrow(rates)) * rgamma(length(rates), 1 / dispersion, 1 / dispersion)
  counts <- matrix(rpois(length(rates), rates), nrow(rates))
  rownames(counts) <- paste0("g", seq_len(nrow(counts)))
  counts[rowSums(counts > 0) > 4, ]
}

# Log fold changes: a share of the genes is informative.
profiles <- function(genes, types, share, sd) {
  spread <- ifelse(runif(genes) < share, rexp(genes, 1 / sd), 0.05)
  matrix(rnorm(genes * types), genes) * spread
}

# Counts of genes whose log rates are given but for their means.
ring_tissue <- function(xy, area, rates) {
  rates <- exp(rates)
  rates <- rates / rowMeans(rates) * rgamma(nrow(rates), 0.4, 0.4 / 2)
  depth <- exp(0.4 * rnorm(nrow(xy)) + 0.2 * smooth_field(xy, 4) + rnorm(5, 0, 0.2)[area])
  list(xy = xy, area = area, counts = counted(rates, depth / mean(depth), 0.12))
}

programs <- function(side, genes = 4000) {
  xy <- hexagons(side)
  n <- nrow(xy)
  area <- parts(rings(xy), c(0.32, 0.10, 0.2, 0.23, 0.15))
  levels <- cbind(
    c(-1.2, -0.6, 0, 0.8, 1.3) + rnorm(5, 0, 0.2),
    c(-0.8, 0.3, 1.2, 0.5, -1.2) + rnorm(5, 0, 0.3),
    rnorm(5)
  )
  common <- blurred(xy, levels[area, ], 0.4) + runif(1, 0.25, 0.6) * matrix(rnorm(3 * n), n)
  common <- common + 0.25 * replicate(3, smooth_field(xy, 3))
  fields <- replicate(3, smooth_field(xy, runif(1, 4, 10)))
  loadings <- function(k, share, sd) {
    matrix(rnorm(genes * k, 0, ifelse(runif(genes * k) < share, sd, 0.03)), genes)
  }
  rates <- loadings(3, 0.15, 0.45) %*% diag(c(1, 0.75, 0.45)) %*% t(common)
  rates <- rates + loadings(3, 0.1, 0.15) %*% t(fields) + loadings(4, 0.1, 0.25) %*% matrix(rnorm(4 * n), 4)
  ring_tissue(xy, area, rates)
}

bulb <- function(side, genes = 6000) {
  xy <- hexagons(side)
  n <- nrow(xy)
  area <- parts(rings(xy), c(0.32, 0.10, 0.2, 0.23, 0.15))
  levels <- cbind(
    c(-1.2, -0.6, 0, 0.8, 1.3) + rnorm(5, 0, 0.25),
    c(-0.8, 0.3, 1.2, 0.5, -1.2) + rnorm(5, 0, 0.35),
    rnorm(5),
    rnorm(5)
  )
  common <- scale(blurred(xy, levels[area, ], runif(1, 0.4, 0.8)))
  common <- common + 0.35 * replicate(4, smooth_field(xy, runif(1, 2.5, 5)))
  common <- common + rep(runif(4, 0.2, 0.5), each = n) * matrix(rnorm(4 * n), n)
  fields <- replicate(3, smooth_field(xy, runif(1, 4, 10)))
  loadings <- function(k, share, sd) {
    strong <- runif(genes * k) < rep(share, each = genes)
    matrix(rnorm(genes * k, 0, ifelse(strong, rep(sd, each = genes), 0.03)), genes)
  }
  rates <- loadings(4, c(0.35, 0.25, 0.12, 0.1), c(0.38, 0.25, 0.22, 0.2)) %*% t(common)
  rates <- rates + loadings(3, 0.1, 0.15) %*% t(fields) + loadings(4, 0.1, 0.2) %*% matrix(rnorm(4 * n), 4)
  ring_tissue(xy, area, rates)
}

# Shares of 14 types of cells in seven layers: neurons of layers 2 to 6 are types 2 to 6, glia 7 to 10, others
# 11 to 13, the first layer's 14. `own` is that of a layer's own neurons, `beside` of those of the layers
# beside it, `first` of types 2 and 14 in the first layer, `white` of glia in the last three.
layer_shares <- function(own, beside, first, white) {
  shares <- matrix(0.01, 7, 14)
  for (k in 2:6) {
    shares[k, k] <- own
    shares[k, setdiff(k + c(-1, 1), c(1, 7))] <- beside
    shares[k, 11:13] <- 0.04
  }
  shares[1, c(2, 14)] <- first
  shares[5:7, 7] <- white
  shares[, 8] <- c(0.3, rep(0.12, 6))
  shares[, 9:10] <- 0.03
  shares
}

# Their log fold changes: neurons of layers differ less among themselves than from other cells.
layer_folds <- function(genes, apart) {
  folds <- profiles(genes, 14, 0.5, 0.6)
  folds[, 2:6] <- apart * folds[, 2:6]
  folds[, c(1:6, 11:13)] <- folds[, c(1:6, 11:13)] + profiles(genes, 1, 0.6, 0.6)[, 1]
  folds
}

mixtures <- function(side, genes = 500) {
  xy <- hexagons(side)
  n <- nrow(xy)
  area <- parts(bands(xy), c(0.09, 0.09, 0.25, 0.09, 0.18, 0.17, 0.13))
  shares <- layer_shares(0.45, 0.1, c(0.1, 0.4), c(0.08, 0.2, 0.8))
  mean <- blurred(xy, (shares / rowSums(shares))[area, ], 0.8)
  mean <- mean * exp(0.3 * replicate(14, smooth_field(xy, 8)))
  mixture <- matrix(rgamma(n * 14, 5 * mean / rowSums(mean)), n)
  mixture <- mixture / rowSums(mixture)
  folds <- layer_folds(genes, 0.55)
  rates <- exp(folds) %*% t(mixture)
  rates <- rates / rowMeans(rates) * (rgamma(genes, 0.5, 0.5) * exp(rnorm(genes)) * 1.25 + 0.05)
  depth <- exp(0.35 * rnorm(n) + 0.25 * smooth_field(xy, 10) + c(-0.3, 0, 0.1, 0, 0.1, 0, -0.3)[area])
  list(xy = xy, area = area, counts = counted(rates, depth, 0.15))
}

cortex <- function(side, genes = 900) {
  xy <- hexagons(side)
  n <- nrow(xy)
  angle <- runif(1, -0.4, 0.4)
  size <- diff(range(xy[, 2]))
  centred <- scale(xy, scale = FALSE)
  across <- centred %*% c(cos(angle), sin(angle))
  along <- centred %*% c(-sin(angle), cos(angle)) + runif(1, -0.35, 0.35) * across^2 / size
  along <- along + 0.04 * size * sin(2 * pi * across / size * runif(1, 0.5, 1.5) + runif(1, 0, 2 * pi))
  area <- parts(rank(along) / n, c(0.075, 0.07, 0.275, 0.06, 0.185, 0.19, 0.145))
  shares <- layer_shares(0.35, 0.175, c(0.08, 0.35), c(0.08, 0.15, 0.8))
  mean <- blurred(xy, (shares / rowSums(shares))[area, ], 1)
  mean <- mean * exp(0.25 * replicate(14, smooth_field(xy, sample(c(4, 8, 16), 1))))
  mixture <- matrix(rgamma(n * 14, 6 * mean / rowSums(mean)), n)
  mixture <- mixture / rowSums(mixture)
  folds <- layer_folds(genes, 0.45)
  activity <- cbind(smooth_field(xy, 6) + rnorm(n, 0, 0.7), smooth_field(xy, 12) + rnorm(n, 0, 0.7), rnorm(n))
  active <- 0.2 * matrix(rnorm(genes * 3) * (runif(genes * 3) < 0.15), genes)
  rates <- exp(folds) %*% t(mixture) * exp(active %*% t(activity))
  rates <- rates / rowMeans(rates) * (rgamma(genes, 0.5, 0.5) * exp(rnorm(genes)) * 1.25 + 0.03)
  depth <- exp(0.35 * rnorm(n) + 0.25 * smooth_field(xy, 10) + c(-0.3, 0, 0.1, 0, 0.1, 0, -0.3)[area])
  list(xy = xy, area = area, counts = counted(rates, depth, 0.15))
}

wavy_layers <- function(xy, layers) {
  parts(rank(xy[, 1] + 2 * sin(xy[, 2] / 5 + runif(1, 0, 2 * pi))) / nrow(xy), rep(1, layers))
}

cells <- function(n) {
  genes <- sample(c(166, 1000), 1)
  layers <- sample(4:7, 1)
  xy <- scattered(n)
  area <- wavy_layers(xy, layers)
  types <- layers + 8
  shares <- matrix(0.02, layers, types)
  for (k in seq_len(layers)) {
    shares[k, k] <- 0.6
    shares[k, setdiff(k + c(-1, 1), c(0, layers + 1))] <- 0.07
    shares[k, layers + 1:8] <- runif(8, 0.02, 0.08)
  }
  shares[layers, layers + 1] <- 0.4
  type <- vapply(area, \(k) sample(types, 1, prob = shares[k, ]), 0L)
  folds <- profiles(genes, types, 0.5, 0.9)
  folds[, seq_len(layers)] <- 0.6 * folds[, seq_len(layers)] + profiles(genes, 1, 0.6, 0.8)[, 1]
  rates <- exp(folds)
  rates <- rates / rowMeans(rates) * exp(rnorm(genes, log(500 / genes / 1.6)))
  list(xy = xy, area = area, counts = counted(rates[, type], exp(0.4 * rnorm(nrow(xy))), 0.4))
}

section <- if (file.exists(merfish_file(data))) {
  read_merfish(data)
} else {
  message("No data: cells of a real section are left out.")
}

# Cells of a layer: a share `own` of its own neurons, give or take.
placed <- function(layers, own, n = 1050) {
  type <- as.character(section$celltype)
  cluster <- as.character(section$neurontype)
  of <- \(types) which(type %in% types)
  layered <- lapply(c("E-14", "E-13", "E-16", "E-18", "E-7", "E-23"), \(name) which(cluster == name))
  inhibitory <- of("Inhibitory")
  glia <- of(c("Astrocyte", "OD Immature 1", "OD Mature 2", "Microglia", "Endothelial 1", "Pericytes"))
  common <- names(which(table(cluster[inhibitory]) > 30))
  beside <- lapply(sample(common, layers), \(name) which(cluster == name))
  xy <- scattered(n)
  area <- wavy_layers(xy, layers)
  own <- own * runif(layers, 0.6, 1.4)
  pick <- function(k) {
    if (k == layers && runif(1) < 0.4) {
      return(sample(of(c("OD Mature 2", "OD Immature 1")), 1))
    }
    if (k == 1 && runif(1) < 0.3) {
      return(sample(of("Astrocyte"), 1))
    }
    near <- intersect(k + c(-1, 1), seq_len(layers))
    near <- near[sample(length(near), 1)]
    kind <- sample(5, 1, prob = c(own[[k]], 0.15, 0.07, 0.2, 0.58 - own[[k]]))
    sample(list(layered[[k]], layered[[near]], beside[[k]], inhibitory, glia)[[kind]], 1)
  }
  counts <- round(as.matrix(SummarizedExperiment::assay(section))[, vapply(area, pick, 0L)])
  colnames(counts) <- paste0("c", seq_len(n))
  list(xy = xy, area = area, counts = counts[rowSums(counts > 0) > 4, ])
}

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
