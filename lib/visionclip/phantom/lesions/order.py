"""The order in which lesions are drawn: ``UNDER`` the retinal vessels, then ``OVER`` them."""

from visionclip.phantom.eye import Eye
from visionclip.phantom.lesions.degeneration import (
    active_lesions,
    bone_spicules,
    diffuse_atrophy,
    lacquer_cracks,
    patchy_atrophy,
    scars,
    staphyloma,
)
from visionclip.phantom.lesions.glaucoma import disc_haemorrhage, nerve_fibre_defect
from visionclip.phantom.lesions.macular import (
    disciform_scar,
    drusen,
    geographic_atrophy,
    macular_pigment,
    subretinal_blood,
    subretinal_fluid,
)
from visionclip.phantom.lesions.membrane import membrane
from visionclip.phantom.lesions.proliferative import fibrosis, irma, laser, neovessels, preretinal
from visionclip.phantom.lesions.vascular import (
    cotton_wool,
    exudates,
    flames,
    haemorrhages,
    macular_exudates,
    macular_star,
    macular_swelling,
    microaneurysms,
    narrowing,
)

# Deep to superficial: under the retinal vessels, then above them.
UNDER = (
    staphyloma,
    diffuse_atrophy,
    bone_spicules,
    geographic_atrophy,
    drusen,
    lacquer_cracks,
    patchy_atrophy,
    scars,
    active_lesions,
    laser,
    macular_pigment,
    macular_swelling,
    subretinal_fluid,
    subretinal_blood,
    disciform_scar,
    nerve_fibre_defect,
)
OVER = (
    narrowing,
    microaneurysms,
    haemorrhages,
    exudates,
    macular_exudates,
    macular_star,
    cotton_wool,
    irma,
    flames,
    disc_haemorrhage,
    membrane,
    neovessels,
    fibrosis,
    preretinal,
)


def paint(eye: Eye, painters: tuple) -> None:
    """Call each painter whose factor is not zero."""
    for painter in painters:
        if eye.factors[painter.__name__]:
            # A membrane moves what lies below it, which must not be seen twice.
            painter(eye) if painter is membrane else eye.layer(painter)
