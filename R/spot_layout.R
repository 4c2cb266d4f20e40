# How large spots are, and on which lattice they lie: what a picture of them needs to know.

# More pixels than this along a side, no screen shows.
most_pixels <- 3000

#' How spots are to be drawn
#'
#' Spots on a lattice as the tiles that fill it, others as discs, many as pixels. All sizes are in the
#' units of the coordinates.
#'
#' @param coords Matrix of the two shown coordinates.
#' @param spot_size The user's diameter of discs, in typical distances of neighbours, or `NULL`.
#' @returns A list: `shape` ("disc", "square", "hexagon" or "raster"), `width` (of a disc, tile or pixel),
#'   `angle` (of a tile, in radians) and `close` (whether pixels without a spot are filled).
#' @noRd
spot_layout <- function(coords, spot_size = NULL, max_shapes = 20000L) {
  coords <- coords[stats::complete.cases(coords), , drop = FALSE]
  if (!is.null(spot_size)) {
    return(list(shape = "disc", width = spot_size * spot_spacing(coords), angle = 0))
  }
  lattice <- find_lattice(coords)
  if (nrow(coords) > max_shapes) {
    # pixels of an upright square lattice are its spots; others lie between pixels
    upright <- identical(lattice$shape, "square") && abs(sin(2 * lattice$angle)) < 0.01
    width <- if (upright) lattice$width else sqrt(spot_area(coords)) / 2
    # a few spots far away, or all on a curve, leave most pixels empty, and memory holds every one
    width <- max(width, apply(coords, 2L, \(x) diff(range(x))) / most_pixels)
    return(list(shape = "raster", width = width, angle = 0, close = !upright))
  }
  lattice %||% list(shape = "disc", width = disc_width(coords), angle = 0)
}

#' Few spots are as wide as they are apart; many cover the tissue, however unevenly they are scattered
#' @noRd
disc_width <- function(coords) {
  if (nrow(coords) < 1000L) spot_spacing(coords) else sqrt(4 / pi * spot_area(coords))
}

#' The lattice that the spots lie on: NULL if there is none
#'
#' The neighbours of a spot on a lattice are all at the same distance, a quarter (or a sixth) of a turn apart.
#' @noRd
find_lattice <- function(coords, n_probes = 200L, tolerance = 0.05) {
  n <- nrow(coords)
  probes <- unique(round(seq(1, n, length.out = min(n, n_probes))))
  points <- t(coords)
  near <- lapply(probes, function(i) {
    step <- points - points[, i]
    distance <- sqrt(colSums(step^2))
    distance[distance == 0] <- NA
    close <- which(distance < 1.25 * min(distance, Inf, na.rm = TRUE))
    list(distance = distance[close], angle = atan2(step[2L, close], step[1L, close]))
  })
  distance <- unlist(lapply(near, `[[`, "distance"))
  width <- stats::median(distance)
  if (length(distance) == 0L || mean(abs(distance / width - 1) < tolerance) < 0.95) {
    return(NULL)
  }
  # spots on a line have two; beside missing spots and at edges there are fewer than 4 or 6
  if (stats::median(lengths(lapply(near, `[[`, "distance"))) < 3) {
    return(NULL)
  }
  angle <- unlist(lapply(near, `[[`, "angle"))
  # turned by a quarter (a sixth), all directions fall together
  turn <- vapply(c(square = 4, hexagon = 6), \(k) mean(complex(modulus = 1, argument = k * angle)), 0i)
  shape <- names(which.max(Mod(turn)))
  if (Mod(turn[[shape]]) < 0.9) {
    return(NULL)
  }
  k <- if (shape == "square") 4 else 6
  list(shape = shape, width = width, angle = Arg(turn[[shape]]) / k)
}

#' Area of the tissue that belongs to one spot, holes left out
#' @noRd
spot_area <- function(coords) {
  extent <- apply(coords, 2L, range)
  side <- extent[2L, ] - extent[1L, ]
  n <- nrow(coords)
  if (any(side == 0) || n < 2L) {
    return(max(side, 1)^2 / n^2)
  }
  # Cells with 4 spots on average: those of the tissue are hardly ever empty. Where holes or the space between
  # pieces turn out to be large, such cells are smaller than first thought.
  area <- prod(side) / n
  for (round in 1:10) {
    size <- sqrt(4 * area)
    cell <- floor((coords - rep(extent[1L, ], each = n)) / size)
    smaller <- nrow(unique(cell)) * size^2 / n
    if (smaller > 0.9 * area) {
      break
    }
    area <- smaller
  }
  min(area, smaller)
}

#' Typical distance between neighbouring spots: the median over spots, in the coordinates' units
#'
#' A hundred spots are enough for a median, and keep the cost linear in the number of spots.
#' Spots in the same place are not neighbours.
#' @noRd
spot_spacing <- function(coords) {
  n <- nrow(coords)
  if (n < 2L) {
    return(1)
  }
  probes <- unique(round(seq(1, n, length.out = min(n, 100L))))
  spacing <- stats::median(nearest_distance(coords, probes), na.rm = TRUE)
  if (is.na(spacing)) 1 else spacing
}

#' Distance of each of some spots to the nearest at another place; `NA` where there is none
#'
#' Of spots in the order of their longest axis, those near a probe in that order say how far along the axis a
#' nearer one may be.
#' @noRd
nearest_distance <- function(coords, probes) {
  n <- nrow(coords)
  extent <- apply(coords, 2L, \(x) diff(range(x)))
  axes <- lapply(order(-extent), \(axis) coords[, axis])
  sorted <- rlang::exec(order, !!!axes)
  axes <- lapply(axes, \(x) x[sorted])
  at <- match(probes, sorted)
  squares <- function(at, others) {
    d2 <- Reduce(`+`, lapply(axes, \(x) (x[others] - x[at])^2))
    d2[d2 == 0 | is.na(d2)] <- Inf
    d2
  }
  width <- ceiling(2 * sqrt(n))
  others <- outer(at, -width:width, `+`)
  others[others < 1 | others > n] <- NA
  d2 <- matrix(squares(at, others), length(at))
  nearest <- sqrt(d2[cbind(seq_along(at), max.col(-d2, "first"))])
  x <- axes[[1L]]
  # what rounding may do to a place plus a distance
  reach <- nearest + 4 * .Machine$double.eps * max(abs(x))
  from <- findInterval(x[at] - reach, x, left.open = TRUE) + 1L
  to <- findInterval(x[at] + reach, x)
  for (k in which(from < at - width | to > at + width)) {
    nearest[[k]] <- sqrt(min(squares(at[[k]], from[[k]]:to[[k]])))
  }
  replace(nearest, is.infinite(nearest), NA)
}
