# Spots drawn to scale, and what patina's pictures look like.

# Many spots as pixels: the mean of the spots in each, of domains the most frequent; gaps between scattered
# spots are closed. Where most spots have no value a pixel has none either, but is drawn.
stat_pixels <- ggplot2::ggproto(
  "StatPixels",
  ggplot2::Stat,
  # spots without a value of what is required would be left out
  required_aes = c("x", "y"),
  compute_panel = function(data, scales, width, close) {
    if (nrow(data) == 0L) {
      return(data)
    }
    columns <- setdiff(names(data), c("x", "y", "colour", "alpha"))
    constant <- data[1L, columns, drop = FALSE]
    origin <- c(min(data$x), min(data$y))
    i <- round((data$x - origin[[1L]]) / width) + 3L
    j <- round((data$y - origin[[2L]]) / width) + 3L
    dims <- c(max(i), max(j)) + 2L
    cell <- i + (j - 1) * dims[[1L]]
    seen <- matrix(FALSE, dims[[1L]], dims[[2L]])
    seen[cell] <- TRUE
    closed <- \(value) if (close) close_gaps(close_gaps(value)) else value
    mean_of <- function(value, spots = rep(TRUE, length(value))) {
      mean <- matrix(NA_real_, dims[[1L]], dims[[2L]])
      if (any(spots)) {
        total <- rowsum(cbind(value[spots], 1), cell[spots])
        mean[as.numeric(rownames(total))] <- total[, 1L] / total[, 2L]
      }
      closed(mean)
    }
    drawn <- !is.na(closed(ifelse(seen, 1, NA)))
    pixels <- function(value) {
      unknown <- is.na(value)
      mean <- mean_of(value, !unknown)
      if (any(unknown)) {
        mean[mean_of(as.numeric(unknown)) > 0.5] <- NA
      }
      mean[drawn]
    }
    place <- which(drawn, arr.ind = TRUE)
    drawn_data <- data.frame(
      x = origin[[1L]] + (place[, 1L] - 3) * width,
      y = origin[[2L]] + (place[, 2L] - 3) * width,
      colour = if (is.numeric(data$colour)) {
        pixels(data$colour)
      } else {
        kinds <- if (is.factor(data$colour)) levels(data$colour) else unique(data$colour)
        most_frequent(kinds, \(kind) pixels(as.numeric(data$colour == kind)))
      },
      constant,
      row.names = NULL
    )
    if (!is.null(data$alpha)) {
      drawn_data$alpha <- pixels(data$alpha)
    }
    drawn_data
  }
)

#' The kind with the largest share in each pixel, the first of several
#' @noRd
most_frequent <- function(kinds, share) {
  best <- share(kinds[[1L]])
  which <- ifelse(is.na(best), NA_integer_, 1L)
  for (k in seq_along(kinds)[-1L]) {
    next_share <- share(kinds[[k]])
    more <- which(next_share > best)
    which[more] <- k
    best[more] <- next_share[more]
  }
  factor(kinds[which], kinds)
}

#' Empty pixels get the mean of their neighbours
#' @noRd
close_gaps <- function(value) {
  known <- !is.na(value)
  filled <- ifelse(known, value, 0)
  sum <- count <- 0 * filled
  rows <- nrow(value)
  columns <- ncol(value)
  for (di in -1:1) {
    for (dj in -1:1) {
      to_i <- seq_len(rows)[seq_len(rows) + di >= 1L & seq_len(rows) + di <= rows]
      to_j <- seq_len(columns)[seq_len(columns) + dj >= 1L & seq_len(columns) + dj <= columns]
      sum[to_i, to_j] <- sum[to_i, to_j] + filled[to_i + di, to_j + dj]
      count[to_i, to_j] <- count[to_i, to_j] + known[to_i + di, to_j + dj]
    }
  }
  value[!known] <- ifelse(count > 0, sum / count, NA)[!known]
  value
}

# Spots as `spot_layout()` says. Their size is in the units of the coordinates, not in geom_point()'s
# millimetres.
geom_spot <- function(..., layout, data = NULL) {
  ggplot2::layer(
    geom = spot_geom,
    stat = if (layout$shape == "raster") stat_pixels else "identity",
    position = "identity",
    data = data,
    params = rlang::list2(
      shape = layout$shape,
      diameter = layout$width,
      angle = layout$angle,
      na.rm = TRUE,
      ...,
      !!!(if (layout$shape == "raster") list(width = layout$width, close = layout$close))
    )
  )
}

spot_geom <- ggplot2::ggproto(
  "GeomSpot",
  ggplot2::Geom,
  required_aes = c("x", "y"),
  default_aes = ggplot2::aes(colour = "grey30", alpha = NA),
  extra_params = c("na.rm", "diameter", "shape", "angle"),
  draw_key = ggplot2::draw_key_point,

  # As for tiles: the extent makes room for whole spots at the edges, and goes through scales.
  setup_data = function(data, params) {
    radius <- params$diameter / 2
    data$xmin <- data$x - radius
    data$xmax <- data$x + radius
    data$ymin <- data$y - radius
    data$ymax <- data$y + radius
    data
  },

  draw_panel = function(data, panel_params, coord, shape = "disc", angle = 0) {
    place <- coord$transform(data, panel_params)
    colour <- ggplot2::alpha(place$colour, place$alpha)
    switch(
      shape,
      disc = spot_discs(place, colour),
      square = spot_polygons(place, colour, 4L, angle),
      hexagon = spot_polygons(place, colour, 6L, angle),
      raster = spot_raster(place, colour)
    )
  }
)

spot_discs <- function(place, colour) {
  # grid takes the smaller of a relative radius's width and height; with equal units on both axes
  # the larger fraction then gives the same disc on both.
  radius <- pmax(abs(place$xmax - place$xmin), abs(place$ymax - place$ymin)) / 2
  grid::circleGrob(
    place$x,
    place$y,
    # no smaller than a pixel of a screen
    r = grid::unit.pmax(grid::unit(radius, "npc"), grid::unit(0.5 / 72, "inches")),
    gp = grid::gpar(fill = colour, col = NA)
  )
}

# Tiles that touch: regular polygons of `sides` sides round each spot.
spot_polygons <- function(place, colour, sides, angle) {
  corner <- angle + 2 * pi * (seq_len(sides) - 0.5) / sides
  reach <- 1 / cos(pi / sides) / 2
  x <- outer(reach * cos(corner), place$xmax - place$xmin) + rep(place$x, each = sides)
  y <- outer(reach * sin(corner), place$ymax - place$ymin) + rep(place$y, each = sides)
  grid::polygonGrob(
    x,
    y,
    id.lengths = rep(sides, nrow(place)),
    # a hairline closes the seams between neighbours
    gp = grid::gpar(fill = colour, col = colour, lwd = 0.2)
  )
}

spot_raster <- function(place, colour) {
  width <- stats::median(place$xmax - place$xmin)
  height <- stats::median(place$ymax - place$ymin)
  i <- round((place$x - min(place$x)) / abs(width)) + 1
  j <- round((max(place$y) - place$y) / abs(height)) + 1
  pixels <- matrix(NA_character_, max(j), max(i))
  pixels[cbind(j, i)] <- colour
  grid::rasterGrob(
    pixels,
    x = mean(range(place$x)),
    y = mean(range(place$y)),
    width = abs(width) * max(i),
    height = abs(height) * max(j),
    interpolate = FALSE
  )
}

#' A bar as long as a round number, no more than a quarter of the first panel's width
#'
#' @param place Data of the first panel: x, y and what tells panels apart.
#' @noRd
scale_bar <- function(place, unit) {
  if (is.null(unit)) {
    return(NULL)
  }
  width <- diff(range(place$x))
  height <- diff(range(place$y))
  steps <- c(1, 2, 5) * rep(10^(-9:9), each = 3L)
  length <- max(steps[steps <= width / 4], 0)
  if (length == 0) {
    return(NULL)
  }
  bar <- place[1L, ]
  bar$x <- min(place$x)
  bar$y <- min(place$y) - 0.05 * height
  bar$end <- bar$x + length
  bar$label <- paste(count_text(length), unit)
  list(
    ggplot2::geom_segment(
      ggplot2::aes(.data$x, .data$y, xend = .data$end, yend = .data$y),
      data = bar,
      inherit.aes = FALSE,
      linewidth = 0.8,
      colour = "grey20"
    ),
    ggplot2::geom_text(
      ggplot2::aes((.data$x + .data$end) / 2, .data$y, label = .data$label),
      data = bar,
      inherit.aes = FALSE,
      vjust = 1.5,
      size = 3,
      colour = "grey20"
    )
  )
}

theme_patina <- function() {
  ggplot2::theme_bw(base_size = 11) +
    ggplot2::theme(
      panel.grid = ggplot2::element_blank(),
      strip.background = ggplot2::element_blank(),
      # titles of narrow panels may be wider than the panel
      strip.clip = "off",
      strip.text = ggplot2::element_text(size = 10),
      strip.text.y = ggplot2::element_text(angle = 0)
    )
}

# The tissue needs no axes: its own shape tells where one is.
theme_tissue <- function() {
  theme_patina() +
    ggplot2::theme(
      panel.border = ggplot2::element_blank(),
      axis.title = ggplot2::element_blank(),
      axis.text = ggplot2::element_blank(),
      axis.ticks = ggplot2::element_blank()
    )
}
