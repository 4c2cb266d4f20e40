# A simulated tissue.

#' A simulated tissue whose patterns are known
#'
#' Negative binomial counts (overdispersion 0.2) on a round piece of a hexagonal lattice, with
#' random depth. Half of the genes have no pattern; the others share four: one side, a hotspot,
#' stripes and a ring. Where one pattern is high the others are low, such that the expected total of
#' a spot depends on its depth alone: genes without pattern have none after depth is accounted for.
#' The same arguments give the same tissue everywhere; the state of the random number generator is
#' left as it was.
#'
#' @param n_spots Number of spots, 5 to a million.
#' @param n_genes Number of genes, 1 to a million; at most 2e8 counts in all.
#' @param seed A whole number that the random numbers start from.
#' @param as `"list"`, or `"SpatialExperiment"` if that package is installed.
#' @returns A list of class `patina_dataset`:
#'   - `counts`: a dgCMatrix, genes × spots, with names;
#'   - `sample_info`: a data.frame with a row for each spot: `x`, `y` (neighbours are 1 apart) and
#'     `total_counts`;
#'   - `truth`: a tibble with a row for each gene: `gene`, `pattern` ("none", "side", "hotspot",
#'     "stripes" or "ring"), `mean` (expected count at average depth and a pattern of 0) and
#'     `amplitude` (the expected count is `mean * (1 + amplitude * pattern)`, where a pattern has
#'     values from -1 to 3).
#'
#'   Or a SpatialExperiment with the assay `counts` and the truth in its rowData.
#' @export
#' @examples
#' tissue <- example_tissue()
#' tissue
#' table(tissue$truth$pattern)
example_tissue <- function(
  n_spots = 300,
  n_genes = 200,
  seed = 1,
  as = c("list", "SpatialExperiment")
) {
  as <- checked(rlang::arg_match(as))
  check_whole_number(n_spots, min = 5, max = 1e6)
  check_whole_number(n_genes, min = 1, max = 1e6)
  check_whole_number(seed, -.Machine$integer.max, .Machine$integer.max)
  if (n_spots * n_genes > 2e8) {
    abort_patina(
      c(
        "{.arg n_spots} and {.arg n_genes} ask for {format(n_spots * n_genes, digits = 3)} counts, more than
          2e8, which are made in memory.",
        i = "Ask for fewer of either."
      ),
      class = "argument"
    )
  }

  places <- hexagonal_disc(n_spots)
  patterns <- tissue_patterns(places)
  kinds <- c("none", "side", "none", "hotspot", "none", "stripes", "none", "ring")
  pattern <- rep_len(kinds, n_genes)
  spots <- numbered("spot", n_spots)
  genes <- numbered("gene", n_genes)

  # Uniform numbers and quantile functions only: samplers differ between versions of R.
  random <- seeded_uniform(seed, 2 * n_genes + n_spots + n_genes * n_spots)
  parts <- rep(1:4, c(n_genes, n_genes, n_spots, n_genes * n_spots))
  random <- split(random, parts)
  level <- exp(log(12) + 0.5 * stats::qnorm(random[[1L]]))
  amplitude <- ifelse(pattern == "none", 0, 0.6 + 0.3 * random[[2L]])
  depth <- exp(0.25 * stats::qnorm(random[[3L]]))
  # patterns cancel in a spot's total if each moves as much as the others
  moves <- amplitude > 0
  moved <- stats::ave(level * amplitude, pattern, FUN = sum)[moves]
  level[moves] <- level[moves] * exp(mean(log(moved))) / moved

  mu <- level * (1 + amplitude * t(patterns[, pattern])) * rep(depth, each = n_genes)
  counts <- stats::qnbinom(random[[4L]], size = 5, mu = mu)
  dim(counts) <- dim(mu)
  dimnames(counts) <- list(genes, spots)
  counts <- as_dgc(Matrix::Matrix(counts, sparse = TRUE, doDiag = FALSE))
  sample_info <- data.frame(places, total_counts = Matrix::colSums(counts), row.names = spots)
  truth <- tibble::tibble(gene = genes, pattern = pattern, mean = level, amplitude = amplitude)

  if (as == "list") {
    return(new_dataset(counts, sample_info, truth))
  }
  checked(rlang::check_installed("SpatialExperiment"))
  SpatialExperiment::SpatialExperiment(
    assays = list(counts = counts),
    rowData = S4Vectors::DataFrame(truth[-1L], row.names = genes),
    colData = S4Vectors::DataFrame(sample_info["total_counts"]),
    spatialCoords = as.matrix(sample_info[c("x", "y")])
  )
}

#' The `n` points of a hexagonal lattice of spacing 1 that are nearest to its middle
#' @noRd
hexagonal_disc <- function(n) {
  half <- ceiling(sqrt(n)) + 1
  lattice <- expand.grid(column = -half:half, row = -half:half)
  x <- lattice$column + 0.5 * (lattice$row %% 2)
  y <- lattice$row * sqrt(3) / 2
  # four times the squared distance, a whole number: ties are broken by place, not by rounding
  distance <- (2 * lattice$column + lattice$row %% 2)^2 + 3 * lattice$row^2
  chosen <- sort(order(distance)[seq_len(n)])
  data.frame(x = x[chosen] - min(x[chosen]), y = y[chosen] - min(y[chosen]))
}

#' Patterns over places: shares of four fields in each place, from -1 (none) to 3 (all)
#' @noRd
tissue_patterns <- function(places) {
  scale <- \(values) 2 * (values - min(values)) / max(max(values) - min(values), 1e-12) - 1
  u <- scale(places$x)
  v <- scale(places$y)
  radius <- sqrt(u^2 + v^2)
  fields <- cbind(
    side = u,
    hotspot = exp(-((u + 0.45)^2 + (v - 0.3)^2) / (2 * 0.3^2)),
    stripes = cos(2 * pi * v),
    ring = exp(-(radius - 0.65)^2 / (2 * 0.15^2))
  )
  shares <- exp(2.5 * apply(fields, 2L, scale))
  cbind(none = 0, 4 * shares / rowSums(shares) - 1)
}

#' Uniform random numbers that neither depend on the user's generator nor touch it
#' @noRd
seeded_uniform <- function(seed, n) {
  old_seed <- get0(".Random.seed", globalenv(), inherits = FALSE)
  old_kind <- RNGkind("Mersenne-Twister", "Inversion", "Rejection")
  on.exit({
    if (is.null(old_seed)) {
      RNGkind(old_kind[1L], old_kind[2L], old_kind[3L])
      rm(".Random.seed", envir = globalenv())
    } else {
      assign(".Random.seed", old_seed, envir = globalenv())
    }
  })
  set.seed(seed)
  stats::runif(n)
}

numbered <- function(prefix, n) {
  sprintf("%s%0*d", prefix, nchar(format(n, scientific = FALSE)), seq_len(n))
}
