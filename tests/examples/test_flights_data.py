"""The flights as they are known before departure."""

import io
import zipfile

import data
import pytest
from data import COLUMNS, DataMissing, Source, read_flights

FLIGHTS = """\
year,month,day,hour,minute,flight,arr_delay,carrier,origin,dest,distance,time_hour,dep_delay
2013,7,4,18,5,1,15,UA,EWR,SFO,2565,2013-07-04T22:00:00Z,60
2013,7,4,6,0,2,14,B6,JFK,BOS,187,2013-07-04T10:00:00Z,0
2013,7,4,9,0,3,,AA,LGA,ORD,733,2013-07-04T13:00:00Z,
"""
WEATHER = """\
origin,time_hour,temp,humid,wind_speed,precip,pressure,visib,wind_gust
EWR,2013-07-04T22:00:00Z,80.1,60,10,0,1012,10,
EWR,2013-07-04T22:00:00Z,99,99,99,99,99,99,
"""


@pytest.fixture
def source(tmp_path):
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as zipped:
        zipped.writestr("flights.csv", FLIGHTS)
    (tmp_path / "flights.csv.zip").write_bytes(archive.getvalue())
    (tmp_path / "weather.csv").write_text(WEATHER)
    return Source(tmp_path / "flights.csv.zip", tmp_path / "weather.csv", "0")


def test_cancelled_flights_are_dropped_and_the_others_stand_in_the_order_of_departure(source):
    assert list(read_flights(source)["carrier"]) == ["B6", "UA"]


def test_late_begins_at_fifteen_minutes(source):
    assert list(read_flights(source)["late"]) == [False, True]


def test_the_hours_weather_of_the_airport_is_joined_once_and_missing_where_there_is_none(source):
    rows = read_flights(source)
    assert len(rows) == 2
    assert rows["temp"].isna().tolist() == [True, False]
    assert rows["temp"].iloc[1] == 80.1


def test_nothing_that_is_only_known_later_is_among_the_columns(source):
    rows = read_flights(source)
    assert set(rows.columns) - set(COLUMNS) == {"month", "late"}
    assert rows["sched_dep"].iloc[1] == "2013-07-04T18:05:00"
    assert not {"arr_delay", "dep_delay", "dep_time", "arr_time", "air_time"} & set(rows.columns)


def test_a_missing_package_is_said_with_what_to_do(monkeypatch):
    def not_installed(name):
        raise data.PackageNotFoundError(name)

    monkeypatch.setattr(data, "distribution", not_installed)
    with pytest.raises(DataMissing, match="scripts/setup demo"):
        Source.find()


def test_a_package_without_the_files_is_said_by_name(monkeypatch):
    class Empty:
        files = ()
        version = "9"

    monkeypatch.setattr(data, "distribution", lambda name: Empty)
    with pytest.raises(DataMissing, match=r"9 has no file 'flights\.csv\.zip'"):
        Source.find()


def test_the_digest_covers_both_files(source, tmp_path):
    (tmp_path / "more.csv").write_text(WEATHER + "JFK,2013-07-04T22:00:00Z,1,1,1,1,1,1,\n")
    assert source.digest != Source(source.flights, tmp_path / "more.csv", "0").digest
