# Tissues in layers, of counts like those of real sections, in six kinds:
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
# Needs bench/tissues.R, and `data`, the folder of data.

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
