# Spots that were given twice: the same place, the same values.

# Two spots are in one place if they are so close, as a share of the mean distance of spots spread over the
# tissue: in one dimension the square of it, or spots would be by chance.
same_place <- 1e-3

#' Say how many spots share their place, and find those that are copies of another one of their sample
#'
#' Repeated measurements share their place and differ in their noise. A copy has its original's noise,
#' too, and would make every gene spatial.
#'
#' @param input A `patina_input`.
#' @param call The user's call, for the warning.
#' @returns The input, with `copies`, whether each spot is one, `NULL` if none is.
#' @noRd
find_copies <- function(input, call) {
  place <- shared_places(input$coords, input$sample_id)
  shared <- which(!is.na(place))
  if (length(shared) == 0L) {
    return(input)
  }
  copy <- shared[same_values(input, shared, place[shared])]
  if (length(copy) == 0L) {
    inform_patina(c(
      "{length(shared)} of {input$n_spots} spots are at the same place as another one.",
      i = "See Spots at the same place in {.help [spatial_test()](patina::spatial_test)}."
    ))
    return(input)
  }
  warn_patina(
    c(
      "{length(copy)} spot{?s} of {.arg x} {?is a copy/are copies} of another one, at the same place with
        the same expression: {.val {first_few(input$spots[copy])}}.",
      i = "Copies are no evidence of a pattern: each of these places counts once. See Spots at the same
        place in {.help [spatial_test()](patina::spatial_test)}."
    ),
    class = "copied_spots",
    call = call
  )
  input$copies <- replace(logical(input$n_spots), copy, TRUE)
  input
}

#' Which of some spots repeat the values of one before them, at the same place
#' @noRd
same_values <- function(input, spots, place) {
  # two sums with unlike weights tell values apart; equal values have equal sums
  sums <- matrix(0, length(spots), 2L)
  expressed <- numeric(length(spots))
  for (genes in sparse_blocks(input)) {
    block <- input_stored_block(input, genes)
    block <- as.matrix(block[spots, , drop = FALSE])
    block[!is.finite(block)] <- 0
    expressed <- expressed + rowSums(block != 0)
    sums <- sums + block %*% cbind(cos(genes), cos(sqrt(2) * genes) + 2)
  }
  # a few values are the same by chance
  rich <- expressed >= min(5L, length(input$genes))
  rich & duplicated(data.frame(place, signif(sums, 12L), rich))
}

#' Numbers of the places that have several spots of a sample, by spot; `NA` for spots that are alone
#'
#' Cells of a grid that is finer than the spots by far; of several such grids, shifted by half a cell in
#' each direction, so that close spots share a cell in one of them.
#' @noRd
shared_places <- function(coords, sample_id) {
  n <- nrow(coords)
  d <- ncol(coords)
  extent <- apply(coords, 2L, \(x) diff(range(x)))
  size <- same_place^max(2 / d, 1) * mean_distance(coords)
  scaled <- sweep(coords, 2L, apply(coords, 2L, min)) / size
  cells <- ceiling(extent / size) + 2
  sample <- if (is.null(sample_id)) 0 else as.integer(sample_id) - 1
  place <- rep(NA_real_, n)
  shifts <- as.matrix(expand.grid(rep(list(c(0, 0.5)), d)))
  for (i in seq_len(nrow(shifts))) {
    index <- sample
    for (k in seq_len(d)) {
      index <- index * cells[[k]] + floor(scaled[, k] + shifts[i, k])
    }
    shared <- is.na(place) & (duplicated(index) | duplicated(index, fromLast = TRUE))
    place[shared] <- n * i + match(index[shared], index)
  }
  place
}

#' The mean distance of spots where they are: a curve, holes and spots far away make the box round them larger
#' @noRd
mean_distance <- function(coords) {
  n <- nrow(coords)
  from <- apply(coords, 2L, min)
  extent <- apply(coords, 2L, \(x) diff(range(x)))
  # in a unit in which products stay in range
  unit <- max(extent)
  extent <- extent / unit
  along <- which(extent > 1e-9)
  d <- length(along)
  volume <- prod(extent[along]) / n
  # as in spot_area()
  for (round in 1:10) {
    size <- (4 * volume)^(1 / d)
    index <- 0
    for (k in along) {
      index <- index * (ceiling(extent[[k]] / size) + 1) + floor((coords[, k] - from[[k]]) / unit / size)
    }
    smaller <- length(unique(index)) * size^d / n
    if (!is.finite(smaller) || smaller > 0.9 * volume) {
      break
    }
    volume <- smaller
  }
  unit * volume^(1 / d)
}
