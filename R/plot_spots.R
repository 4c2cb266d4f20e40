# Spots drawn to scale, and what patina's pictures look like.

#' Typical distance between neighbouring spots: the median over spots, in the coordinates' units
#'
#' A hundred spots are enough for a median, and keep the cost linear in the number of spots.
#' Spots in the same place are not neighbours. With several samples, the largest one counts.
#' @noRd
spot_spacing <- function(coords, sample = NULL) {
  if (!is.null(sample)) {
    coords <- coords[which(sample == names(which.max(table(sample)))), , drop = FALSE]
  }
  coords <- coords[stats::complete.cases(coords), , drop = FALSE]
  n <- nrow(coords)
  probes <- unique(round(seq(1, n, length.out = min(n, 100L))))
  points <- t(coords)
  nearest <- vapply(
    probes,
    function(i) {
      d2 <- colSums((points - points[, i])^2)
      d2 <- d2[d2 > 0]
      if (length(d2) > 0L) sqrt(min(d2)) else NA_real_
    },
    double(1L)
  )
  spacing <- stats::median(nearest, na.rm = TRUE)
  if (is.na(spacing)) 1 else spacing
}

# Points whose size is in the units of the coordinates, unlike geom_point()'s millimetres.
geom_spot <- function(..., diameter) {
  ggplot2::layer(
    geom = spot_geom,
    stat = "identity",
    position = "identity",
    params = list(diameter = diameter, na.rm = TRUE, ...)
  )
}

spot_geom <- ggplot2::ggproto(
  "GeomSpot",
  ggplot2::Geom,
  required_aes = c("x", "y"),
  default_aes = ggplot2::aes(colour = "grey30", alpha = NA),
  extra_params = c("na.rm", "diameter"),
  draw_key = ggplot2::draw_key_point,

  # As for tiles: the extent makes room for whole discs at the edges, and goes through scales.
  setup_data = function(data, params) {
    radius <- params$diameter / 2
    data$xmin <- data$x - radius
    data$xmax <- data$x + radius
    data$ymin <- data$y - radius
    data$ymax <- data$y + radius
    data
  },

  draw_panel = function(data, panel_params, coord) {
    place <- coord$transform(data, panel_params)
    # grid takes the smaller of a relative radius's width and height; with equal units on both axes
    # the larger fraction then gives the same disc on both.
    radius <- pmax(abs(place$xmax - place$xmin), abs(place$ymax - place$ymin)) / 2
    grid::circleGrob(
      place$x,
      place$y,
      r = grid::unit(radius, "npc"),
      gp = grid::gpar(fill = ggplot2::alpha(place$colour, place$alpha), col = NA)
    )
  }
)

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
